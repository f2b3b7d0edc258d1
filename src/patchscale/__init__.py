"""Does a bigger PatchTST forecast a daily index better? A scaling study as a DVC pipeline."""
