# How to build and run it: docs/docker.md
ARG BASE=python:3.13-slim-trixie

# The code without the models that were optimised here: they go into the image only by name.
FROM ${BASE} AS models
COPY models /models
RUN rm -rf /models/store

# pillow-simd comes as source only. With AVX2, which x86-64 servers have had since 2013, it resizes five times
# as fast as Pillow; other processors keep Pillow.
FROM ${BASE} AS native
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev libjpeg62-turbo-dev libwebp-dev zlib1g-dev
ARG PILLOW_SIMD=12.1.1.post0
RUN mkdir /wheels /native && if [ "$(uname -m)" = x86_64 ]; then \
        CC="cc -mavx2" pip wheel --no-cache-dir --no-deps --no-binary pillow-simd --wheel-dir /wheels \
            "pillow-simd==${PILLOW_SIMD}"; \
    fi
# What decodes only the part of a JPEG that the model sees.
COPY --from=models /models/images/jpeg_region.c /
RUN cc -O2 -shared -fPIC $(python3-config --includes) /jpeg_region.c -ljpeg \
        -o "/native/jpeg_region$(python3-config --extension-suffix)"

FROM ${BASE}
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libjpeg62-turbo libwebp7 libwebpdemux2 libwebpmux3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --create-home snapserve
WORKDIR /app

# An extra index to take torch from; empty: the package index's own build, which is for CUDA.
ARG TORCH_INDEX=
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; extras = project['optional-dependencies']; \
        print(*project['dependencies'], *extras['openvino'], *extras['timm'], *extras['plot'], *extras['grpc'], sep='\n')" > requirements.txt \
 && pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} \
        --constraint constraints.txt --requirement requirements.txt
# Last, in Pillow's place: both own the folder PIL, and torchvision asks for Pillow by name.
RUN --mount=type=bind,from=native,source=/wheels,target=/wheels \
    if ls /wheels/*.whl; then \
        pip uninstall --yes pillow && pip install --no-cache-dir --no-deps /wheels/*.whl; \
    fi

COPY LICENSE optimize_model_for_inference.py ./
COPY images images
COPY snapserve snapserve
COPY batching batching
COPY runtime runtime
COPY --from=models /models models
COPY --from=native /native models/images
COPY server server
# The bundle that is served unless another is mounted here. Its files may be readable for their owner only.
ARG BUNDLE=models/demo
COPY --chown=10001 ${BUNDLE} /model

USER 10001
ENV SNAPSERVE_HOST=0.0.0.0 SNAPSERVE_PORT=8088 SNAPSERVE_MODEL=/model
EXPOSE 8088
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=60s --interval=10s --timeout=5s CMD ["python", "-ISc", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['SNAPSERVE_PORT'])); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "server"]
