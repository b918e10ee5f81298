# The lessons in JupyterLab, on the processor, as a user without rights. It prints the address to open, with its token:
#   docker build -t bloodcell .
#   docker run --init --rm -p 127.0.0.1:8888:8888 -v bloodcell-runs:/home/learner/runs bloodcell
# The archive, read-only:        -v "$PWD/archive.zip:/data/archive.zip:ro" -e BLOODCELL_DATA=/data/archive.zip
# A command in place of the Lab: docker run --init --rm -v bloodcell-runs:/home/learner/runs bloodcell bloodcell run cnn
#
# On a GPU (NVIDIA's driver and Container Toolkit on the host), one backend gets CUDA wheels; `docker run --gpus all`:
#   docker build --build-arg GPU="tensorflow[and-cuda]" -t bloodcell-gpu .
#   docker build --build-arg GPU="jax[cuda13]" -t bloodcell-gpu .          # and `docker run -e KERAS_BACKEND=jax`
# They keep the locked versions, but the lock has no hashes of NVIDIA's own packages.
FROM python:3.13-slim

RUN useradd --create-home --uid 1000 learner
WORKDIR /home/learner

COPY requirements.lock /tmp/
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements.lock

ARG GPU=""
RUN if [ -n "$GPU" ]; then pip freeze > /tmp/pins && pip install --no-cache-dir -c /tmp/pins "$GPU" && rm /tmp/pins; fi

COPY . /tmp/bloodcell
RUN pip install --no-cache-dir --no-deps --no-build-isolation /tmp/bloodcell

USER learner
RUN bloodcell notebooks . && mkdir runs

EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "--LabApp.default_url=/lab/tree/index.ipynb"]
