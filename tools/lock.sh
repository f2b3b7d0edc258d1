#!/bin/sh
# Rewrite requirements.lock from pyproject.toml. torch and what only torch needs stay out:
# dev.py adds the torch build that fits the machine (docs/decisions.md).
set -eu
cd "$(dirname "$0")/.."
uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
    --fork-strategy fewest --no-header --no-annotate --quiet \
    | grep -vE '^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)(==|\[)' > requirements.lock.tmp
mv requirements.lock.tmp requirements.lock
