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


def client(region):
    if region not in clients:
        # Older ones do not read AWS_ENDPOINT_URL.
        clients[region] = session.client("kms", region_name=region, endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    return clients[region]


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
        return {"known": request["knows"] in client(session.region_name).meta.service_model.operation_names}
    kms, given = client(request["region"]), native(request["in"] or {})
    if "pages" in request:
        pages = kms.get_paginator(xform_name(request["pages"])).paginate(**given, PaginationConfig={"PageSize": request["size"]})
        return {"pages": list(pages)}
    return getattr(kms, xform_name(request["do"]))(**given)


for line in sys.stdin:
    try:
        result = {"out": answer(json.loads(line))}
    except ClientError as e:
        error = e.response["Error"]
        result = {"error": {"code": error["Code"], "class": type(e).__name__, "message": error["Message"]}}
    print(json.dumps(result, default=wire), flush=True)
