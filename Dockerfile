# vidfeat on a CPU.
#
#     docker build -t vidfeat .
#     docker run --rm -v "$PWD:/data" -v vidfeat-cache:/cache --user "$(id -u):$(id -g)" \
#         vidfeat extract videos/ -o features.h5 --model bundled
#
# The search page: add -p 127.0.0.1:8765:8765, and serve index/ --host 0.0.0.0 --allow-host localhost
FROM python:3.11-slim

# torch's usual wheels carry CUDA and are several gigabytes larger
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu

COPY pyproject.toml README.md LICENSE /source/
COPY cli /source/cli
COPY pretrained /source/pretrained
COPY vidfeat /source/vidfeat
RUN pip install --no-cache-dir "/source[openvino,web]" && rm -r /source

# whoever the container runs as may write the cache
RUN mkdir -m 1777 /cache
ENV VIDFEAT_CACHE=/cache
WORKDIR /data
ENTRYPOINT ["vidfeat"]
CMD ["--help"]
