# The CPU environment and the check of the published results:
#   docker build -t patchscale . && docker run --rm patchscale
# There is no C++ compiler in it: trainings run uncompiled, slower and to other last bits.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --no-log-init patchscale \
    && install --directory --owner patchscale --group patchscale /patchscale

USER patchscale
WORKDIR /patchscale
COPY --chown=patchscale:patchscale . .
# any command makes the environment first
RUN python3 dev.py -- dvc --version

CMD ["python3", "dev.py", "repro"]
