# The CPU environment and the check of the published results:
#   docker build -t patchscale . && docker run --rm patchscale
# The image has no C++ compiler: trainings run uncompiled, slower and with other last bits.
FROM python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --no-log-init patchscale \
    && install --directory --owner patchscale --group patchscale /patchscale

USER patchscale
WORKDIR /patchscale
COPY --chown=patchscale:patchscale . .
# Every command of dev.py makes the environment first.
RUN python3 dev.py -- dvc --version

CMD ["python3", "dev.py", "repro"]
