#!/bin/sh
# Rewrite requirements.lock from pyproject.toml, with the hashes of every file of a package.
# Versions that are locked already stay, where they still fit; without the file all are the newest.
# torch and what only torch needs are left out: dev.py adds the torch build that fits the machine
# (docs/decisions.md). uv is the one that dev.py brings.
set -eu
cd "$(dirname "$0")/.."
new=requirements.lock.tmp
[ ! -f requirements.lock ] || cp requirements.lock "$new"
.uv/bin/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
    --fork-strategy fewest --no-header --no-annotate --generate-hashes --quiet --output-file "$new" >/dev/null
# A requirement is one line and the indented lines of its hashes. nvidia-ml-py belongs to dvclive.
awk '
    /^[^ ]/ { left_out = /^(torch|triton|(nvidia|cuda)-[a-z0-9-]+)[=[]/ && !/^nvidia-ml-py=/ }
    !left_out' "$new" >requirements.lock
rm "$new"
