"""Everything about the media itself: what a file is, how it is converted, shown and verified."""
