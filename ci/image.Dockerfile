# The image that ci/image makes, for those who have an engine: docker build -f ci/image.Dockerfile -t squall .
FROM rust:1.95-bookworm AS build
WORKDIR /squall
COPY . .
RUN ci/image --root /image

FROM scratch
COPY --from=build /image /
USER 65532:65532
ENV PATH=/usr/local/bin
WORKDIR /tmp
ENTRYPOINT ["/usr/local/bin/squall"]
