"""S3: moto's server, and boto3 as its client."""

import io
import random
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import config

# Of a Python that boto3 is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore::boto3.exceptions.PythonDeprecationWarning")


@pytest.fixture(scope="module")
def server(serve_module):
    app = "client_max_body_size 0; wsgi_app s3 { module s3; path @APPS@; }"
    locations = "wsgi_pass s3; wsgi_request_buffering"
    second = f"server {{ listen 127.0.0.1:@OFF_PORT@; location / {{ {locations} off; }} }}"
    return serve_module(app + config.site(f"location / {{ {locations} on; }}", http=second))


@pytest.fixture(params=["PORT", "OFF_PORT"])
def s3(request, server):
    """A client; bodies are read before the call, or during it. Its bucket `box` is empty."""
    url = f"http://127.0.0.1:{server.ports[request.param]}"
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()
    options = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}, connect_timeout=20, read_timeout=20)
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=url, config=options, **keys)
    client.create_bucket(Bucket="box")
    yield client
    client.close()


def body(s3, key, **options):
    return s3.get_object(Bucket="box", Key=key, **options)["Body"].read()


def code(call, **arguments):
    with pytest.raises(ClientError) as error:
        call(Bucket="box", **arguments)
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize("size", [0, 1, 8192, 1_000_001, 8 << 20])
def test_objects(s3, size):
    """boto3 asks for permission to send (Expect), and sends a file in signed chunks with a checksum behind them."""
    data = random.Random(size).randbytes(size)
    s3.put_object(Bucket="box", Key="key", Body=io.BytesIO(data), ContentType="text/x", Metadata={"own": "a b"})
    assert body(s3, "key", ChecksumMode="ENABLED") == data
    head = s3.head_object(Bucket="box", Key="key")
    assert (head["ContentLength"], head["ContentType"], head["Metadata"]) == (size, "text/x", {"own": "a b"})
    s3.copy_object(Bucket="box", Key="copy", CopySource="box/key")
    s3.delete_object(Bucket="box", Key="key")
    assert code(s3.get_object, Key="key") == 404
    assert body(s3, "copy") == data


def test_ranges_and_conditions(s3):
    data = random.Random(1).randbytes(1000)
    tag = s3.put_object(Bucket="box", Key="key", Body=data)["ETag"]
    part = s3.get_object(Bucket="box", Key="key", Range="bytes=10-19")
    assert (part["ContentRange"], part["Body"].read()) == ("bytes 10-19/1000", data[10:20])
    assert body(s3, "key", Range="bytes=-5") == data[-5:]
    assert code(s3.get_object, Key="key", Range="bytes=1000-") == 416
    assert body(s3, "key", IfMatch=tag) == body(s3, "key", IfNoneMatch='"other"') == data
    assert code(s3.get_object, Key="key", IfMatch='"other"') == 412
    assert code(s3.get_object, Key="key", IfNoneMatch=tag) == code(s3.head_object, Key="key", IfNoneMatch=tag) == 304


KEYS = ["a b", "a+b", "a%2Fb", "a//b", "//a", "a/./b", "a/../b", "a?b=c&d", "a#b", "a%b", "a/", "a;'\"\\|"]
KEYS += ["\u00fc/\u65e5\U0001f600"]


def test_keys(s3):
    """Two keys are two objects, however alike their paths are once they are decoded."""
    for key in KEYS:
        s3.put_object(Bucket="box", Key=key, Body=key.encode())
    assert [body(s3, key).decode() for key in KEYS] == KEYS
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="box", PaginationConfig={"PageSize": 5})
    assert [each["Key"] for page in pages for each in page["Contents"]] == sorted(KEYS)
    s3.delete_objects(Bucket="box", Delete={"Objects": [{"Key": key} for key in KEYS]})
    assert s3.list_objects_v2(Bucket="box")["KeyCount"] == 0


def test_parts(s3):
    pieces = [random.Random(number).randbytes(size) for number, size in enumerate((5 << 20, 5 << 20, 77))]
    upload = {"Bucket": "box", "Key": "large"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    tags = [s3.upload_part(**upload, PartNumber=at + 1, Body=piece)["ETag"] for at, piece in enumerate(pieces)]
    assert [part["Size"] for part in s3.list_parts(**upload)["Parts"]] == [len(piece) for piece in pieces]
    parts = [{"PartNumber": at + 1, "ETag": tag} for at, tag in enumerate(tags)]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert body(s3, "large") == b"".join(pieces)

    upload["UploadId"] = s3.create_multipart_upload(Bucket="box", Key="large")["UploadId"]
    s3.upload_part(**upload, PartNumber=1, Body=b"x")
    s3.abort_multipart_upload(**upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="box")


def test_signed_addresses(s3):
    def send(method, operation, data=None):
        url = s3.generate_presigned_url(operation, Params={"Bucket": "box", "Key": "a b/\u00fc+%2F"})
        asked = urllib.request.Request(url, data, {"Content-Type": "text/x"}, method=method)
        with urllib.request.urlopen(asked) as response:
            return response.read()

    send("PUT", "put_object", b"signed")
    assert send("GET", "get_object") == body(s3, "a b/\u00fc+%2F") == b"signed"
    send("DELETE", "delete_object")
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        send("GET", "get_object")
    refused.value.close()


def test_versions(s3):
    s3.put_bucket_versioning(Bucket="box", VersioningConfiguration={"Status": "Enabled"})
    versions = [s3.put_object(Bucket="box", Key="key", Body=text)["VersionId"] for text in (b"old", b"new")]
    assert [body(s3, "key", VersionId=version) for version in versions] == [b"old", b"new"]
    assert s3.delete_object(Bucket="box", Key="key")["DeleteMarker"] is True
    assert code(s3.get_object, Key="key") == 404
    assert len(s3.list_object_versions(Bucket="box")["Versions"]) == 2
