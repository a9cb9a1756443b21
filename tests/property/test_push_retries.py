"""What waits after which trouble with a push; the real pushes are in tests/integration/test_publication.py."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from dailies.git_door import Trouble
from dailies.publication import CEILINGS_S, wait_ceiling


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(Trouble), max_size=40), st.integers(0, 6))
def test_the_network_is_tried_again_a_limited_number_of_times_under_2_4_8_s(troubles: list[Trouble], retries: int) -> None:
    """Feature: github-workflow-bug-fixes, Property 8: push retries: 2, 4, 8 s of ceiling, `push_retries` times; races uncounted."""
    ceilings: list[float] = []
    counts: Counter[Trouble] = Counter()
    for trouble in troubles:
        counts[trouble] += 1
        ceiling = wait_ceiling(trouble, counts[trouble], retries)
        if ceiling is None:
            assert trouble in {Trouble.REFUSED, Trouble.LOCAL} or counts[Trouble.NETWORK] == retries + 1
            break
        if trouble is Trouble.NETWORK:
            ceilings.append(ceiling)
    assert ceilings == [*CEILINGS_S, *[CEILINGS_S[-1]] * 4][: len(ceilings)]
    assert len(ceilings) <= retries
