"""boto3 for the tests: one request a line in, one answer a line out (see type script in client_test.go)."""

import base64
import datetime
import json
import os
import sys

import boto3
from botocore import xform_name
from botocore.exceptions import ClientError

session = boto3.session.Session()
clients = {}


def client(operation, region):
    """The client for an operation, and the operation's name without the service."""
    service, _, name = operation.rpartition(":")
    service = service or "kms"
    if (service, region) not in clients:
        # Older ones do not read AWS_ENDPOINT_URL.
        clients[service, region] = session.client(service, region_name=region, endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    return clients[service, region], name


def native(value):
    if isinstance(value, list):
        return [native(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "$bytes" in value:
        return base64.b64decode(value["$bytes"])
    if "$time" in value:
        return datetime.datetime.fromisoformat(value["$time"].replace("Z", "+00:00"))
    return {name: native(v) for name, v in value.items()}


def wire(value):
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value.isoformat()


def answer(request):
    if "knows" in request:
        aws, name = client(request["knows"], session.region_name)
        return {"known": name in aws.meta.service_model.operation_names}
    aws, name = client(request.get("do") or request["pages"], request["region"])
    method, given = xform_name(name), native(request["in"] or {})
    if "pages" in request:
        pages = aws.get_paginator(method).paginate(**given, PaginationConfig={"PageSize": request["size"]})
        return {"pages": list(pages)}
    return getattr(aws, method)(**given)


for line in sys.stdin:
    try:
        result = {"out": answer(json.loads(line))}
    except ClientError as e:
        error = e.response["Error"]
        result = {"error": {"code": error["Code"], "class": type(e).__name__, "message": error["Message"]}}
    print(json.dumps(result, default=wire), flush=True)
