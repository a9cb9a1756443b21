"""Settings: documented defaults, durations and sizes, faults told in one line with the nearest known key."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dailies import config, generate, hosts
from dailies.config import Settings, parse, parse_size
from dailies.errors import ConfigError
from support import ROOT, FakeClock

_ROW = re.compile(r"^\| `(?P<key>\w+)` \| `(?P<literal>[^|]*)` \|", re.MULTILINE)
_HEADING = re.compile(r"^## `\[(\w+)\]`$", re.MULTILINE)
FOLDER = '[hosts.published]\nadapter = "folder"\npath = "media/published"\n'


def documented() -> dict[str, dict[str, str]]:
    """Section to key to default, as docs/settings.md has them."""
    text = (ROOT / "docs/settings.md").read_text("utf-8").partition("## `[hosts.NAME]`")[0]
    _, *parts = _HEADING.split(text)
    return {
        name: {row["key"]: row["literal"] for row in _ROW.finditer(body)}
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as failure:
        parse(text, "dailies.toml")
    message = str(failure.value)
    assert "\n" not in message
    assert message.startswith("dailies.toml: ")
    return message


def test_an_empty_file_gives_the_defaults() -> None:
    assert parse("", "dailies.toml") == Settings()


def test_every_setting_is_documented_and_no_other() -> None:
    sections = dict(generate._sections())

    assert {name: set(keys) for name, keys in documented().items()} == {
        name: set(model.model_fields) for name, model in sections.items()
    }


@pytest.mark.parametrize("section", sorted(documented()))
def test_the_documented_defaults_are_the_real_ones(section: str) -> None:
    lines = [f"{key} = {literal}" for key, literal in documented()[section].items()]

    assert parse("\n".join([f"[{section}]", *lines]), "docs/settings.md") == Settings()


def test_a_new_libraries_file_with_every_comment_made_real_gives_the_defaults() -> None:
    uncommented = re.sub(r"^# (\w+ = )", r"\1", generate.settings_toml(), flags=re.MULTILINE)

    assert uncommented.count("\n# time_limit") == 0
    assert parse(uncommented, "dailies.toml") == Settings()


def test_the_defaults_are_those_of_the_design() -> None:
    settings = Settings()

    assert (settings.run.time_limit, settings.run.min_remaining, settings.run.jobs) == (315 * 60, 30 * 60, 0)
    assert (settings.library.inbox, settings.library.remove_source) == ("media/inbox", "never")
    assert not settings.library.accept_audio
    assert not settings.library.accept_damaged
    assert (settings.publish.hosts, settings.publish.preview_hosts) == (("published",), ("published",))
    assert (settings.publish.strategy, settings.publish.max_retries, settings.publish.verify) == ("fallback", 3, "streams")
    assert (settings.preview.clips, settings.preview.clip_length, settings.preview.height) == (10, 3.0, 480)
    git = settings.git
    assert (git.add_limit, git.diff_limit, git.commit_limit, git.fetch_limit, git.push_limit) == (10, 5, 10, 60, 120)


def test_durations_and_sizes_are_read_as_people_write_them() -> None:
    settings = parse('[run]\ntime_limit = "1h30m"\nmin_remaining = 90\n[space]\nfloor = "2GiB"\nkeep_work = "2d"\n', "dailies.toml")

    assert (settings.run.time_limit, settings.run.min_remaining) == (5400, 90)
    assert (settings.space.floor, settings.space.keep_work) == (2 * 1024**3, 172800)


@pytest.mark.parametrize(
    ("text", "size"),
    [(1000, 1000), ("1000", 1000), ("5B", 5), ("500MB", 500 * 10**6), ("2 GB", 2 * 10**9),
        ("2gib", 2**31), ("1.5K", 1500), ("1TB", 10**12)],
)  # fmt: skip
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@given(st.integers(0, 10**6), st.sampled_from([("KB", 1000), ("MiB", 1024**2), ("GB", 10**9), ("TiB", 1024**4)]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: tuple[str, int]) -> None:
    assert parse_size(f"{number}{unit[0]}") == number * unit[1]


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "lots", "5PB", "1,5GB"])
def test_what_is_no_size_is_refused_with_the_way_to_write_one(text: str) -> None:
    assert "is not a size; write it like 500MB or 2GiB" in refused(f'[space]\nfloor = "{text}"\n')


@pytest.mark.parametrize(
    ("text", "name", "nearest"),
    [
        ("[libary]\n", "libary", "library"),
        ('[run]\ntimelimit = "5m"\n', "run.timelimit", "time_limit"),
        ("[run]\njob = 1\n", "run.job", "jobs"),
        ('[publish]\nhost = ["a"]\n', "publish.host", "hosts"),
        ("[preview]\nlength = 3\n", "preview.length", "clip_length"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(text: str, name: str, nearest: str) -> None:
    assert refused(text) == f"dailies.toml: {name}: unknown key; the nearest known one is {nearest}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('[preview]\nclips = "many"\n', "preview.clips"),
        ("[preview]\nclips = 0\n", "preview.clips"),
        ("[run]\njobs = -1\n", "run.jobs"),
        ('[run]\ntime_limit = "soon"\n', "run.time_limit"),
        ("[run]\ntime_limit = -5\n", "run.time_limit"),
        ('[publish]\nhosts = "published"\n', "publish.hosts"),
        ('[publish]\nstrategy = "first"\n', "publish.strategy"),
        ("[git]\nremote = 1\n", "git.remote"),
        ('library = "here"\n', "library"),
        ('[hosts]\npublished = "here"\n', "hosts.published"),
        ('[hosts.published]\npath = "here"\n', "hosts.published.adapter"),
        ("[run]\ntime_limit = [1]\n", "run.time_limit"),
        ("[run]\ntime_limit = true\n", "run.time_limit"),
        ("[run]\ntime_limit = inf\n", "run.time_limit"),
        ("[space]\nfloor = 1.5\n", "space.floor"),
        ("[space]\nfloor = true\n", "space.floor"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_key(text: str, name: str) -> None:
    assert refused(text).startswith(f"dailies.toml: {name}: ")


def test_text_that_is_no_toml_names_the_line() -> None:
    assert "line 2" in refused("[run]\ntime_limit =\n")


def test_a_file_that_is_no_text_is_a_persons_matter(tmp_path: Path) -> None:
    (tmp_path / "dailies.toml").write_bytes(b"[run]\n# caf\xe9\n")

    with pytest.raises(ConfigError, match=r"cannot be read.*write it as UTF-8"):
        config.load(tmp_path)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().run.jobs = 5  # type: ignore[misc]


def test_the_root_is_the_nearest_folder_upwards(tmp_path: Path) -> None:
    (tmp_path / "dailies.toml").touch()
    deep = tmp_path / "media" / "inbox"
    deep.mkdir(parents=True)

    assert config.find_root(deep) == tmp_path


def test_no_library_anywhere_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dailies init"):
        config.find_root(tmp_path)


def test_variables_named_by_env_keys_are_secret() -> None:
    settings = parse(f'{FOLDER}[hosts.wish]\nadapter = "later"\nkey_env = "WISH"\n', "dailies.toml")

    assert hosts.secret_names(settings.hosts["wish"]) == ("WISH",)


def built(text: str) -> None:
    hosts.build(parse(text, "dailies.toml"), Path("/library"), FakeClock(), {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[hosts.a]\nadapter = "fodler"\n', "hosts.a: unknown adapter 'fodler'; known: folder, "),
        (f'{FOLDER}public_ur = "https://x"\n', "hosts.published: public_ur: unknown key; the nearest known one is public_url"),
        ('[hosts.published]\nadapter = "folder"\n', "hosts.published: path: Field required"),
        (f"{FOLDER}public_url = 5\n", "hosts.published: public_url: "),
        (f'{FOLDER}[publish]\nhosts = ["archive"]\n', r"publish.hosts: no section \[hosts.archive\]; known: published"),
        (f'{FOLDER}[publish]\npreview_hosts = ["archive"]\n', r"publish.preview_hosts: no section \[hosts.archive\]"),
        (f"{FOLDER}[publish]\nhosts = []\n", "publish.hosts: names no host"),
    ],
)
def test_a_host_that_cannot_be_built_says_why(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        built(text)


def test_a_mistyped_required_key_of_a_host_names_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match=r"hosts\.published: pth: unknown key; the nearest known one is path"):
        built('[hosts.published]\nadapter = "folder"\npth = "media/published"\n')


def test_a_host_cannot_set_the_librarys_root() -> None:
    with pytest.raises(ConfigError, match=r"hosts\.published: root: "):
        built(f'{FOLDER}root = "/elsewhere"\n')


def test_the_default_host_can_be_built() -> None:
    assert list(hosts.build(Settings(), Path("/library"), FakeClock(), {})) == ["published"]
