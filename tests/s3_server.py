"""An S3 server of moto's in this process, on loopback, with a bucket of its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

BUCKET = "factory"
REGION = "us-east-1"


@dataclass(frozen=True)
class Bucket:
    """An empty bucket.

    Attributes:
        environment: variables by which clients find the server, with credentials that it takes.
        client: boto3's.
    """

    environment: Mapping[str, str]
    client: Any

    def put(self, files: Mapping[str, bytes]) -> None:
        """Store files by their keys."""
        for key, content in files.items():
            self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def clear(self) -> None:
        """Delete all files."""
        for item in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            self.client.delete_object(Bucket=BUCKET, Key=item["Key"])


@contextmanager
def s3_bucket() -> Iterator[Bucket]:
    """Run a server until the block ends."""
    boto3, server = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    try:
        address = "http://{}:{}".format(*running.get_host_and_port())
        secrets = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "very-secret-key"}
        environment = secrets | {"AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": REGION}
        keys = {"aws_access_key_id": "reader", "aws_secret_access_key": secrets["AWS_SECRET_ACCESS_KEY"]}
        client = boto3.client("s3", endpoint_url=address, region_name=REGION, **keys)
        client.create_bucket(Bucket=BUCKET)
        yield Bucket(environment, client)
    finally:
        running.stop()
