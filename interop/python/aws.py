"""The AWS CLI for the tests: one command a line in, as [[argument, …], {variable: value}], one result a line out.

To import the CLI takes it longer than a command does, so that is done once, and each command runs in a fork of its
own: the same entry point, arguments, output and exit code as of the program."""

import gc
import json
import os
import sys
import tempfile

import awscli
from awscli.clidriver import create_clidriver


def run(arguments, environment):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            code = 255
            try:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                os.environ.update(environment)
                code = driver.main(arguments)
            except SystemExit as e:
                code = e.code
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code or 0)
        _, status = os.waitpid(child, 0)
        result = {"code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else 255}
        for name, file in (("stdout", out), ("stderr", err)):
            file.seek(0)
            result[name] = file.read().decode()
        return result


driver = create_clidriver()
# What is loaded late is loaded now: by a command that cannot go anywhere, for there are no credentials yet. Version 2
# starts threads for a command, which a fork would not have; it only loads what it needs.
if awscli.__version__.startswith("1."):
    driver.main(["--region", "us-east-1", "--endpoint-url", "http://127.0.0.1:1", "kms", "list-keys"])
else:
    driver.session.create_client("kms", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")
# To look for garbage, each fork would copy all that was loaded.
gc.disable()
for line in sys.stdin:
    print(json.dumps(run(*json.loads(line))), flush=True)
