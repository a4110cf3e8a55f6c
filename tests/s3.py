"""A server that speaks S3 on this machine, where its package is installed."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def s3_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """While it lasts the environment leads to a server with one bucket; gives the bucket's name."""
    pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[s3,server]'")
    from moto.server import ThreadedMotoServer
    from pyarrow import fs

    for name, value in {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        options = f"scheme=http&endpoint_override={host}:{port}&allow_bucket_creation=true"
        system, _ = fs.FileSystem.from_uri(f"s3://bucket?{options}")
        system.create_dir("bucket")
        yield "bucket"
    finally:
        server.stop()
