# SPDX-License-Identifier: Apache-2.0
"""Reads Kubernetes objects as YAML from standard input and prints them as one JSON list. With `validate` each is first held to the
schemas of every release of Kubernetes that kubernetes-validate has (1.25 and newer), strictly: an unknown field is a mistake. Kinds
that it has no schema of are custom ones and are named after `validate`; others without a schema are mistakes.

    objects.py [validate [KIND...]]     exit 1: mistakes, on standard error, one a line
"""

import functools
import json
import sys

import yaml
from kubernetes_validate import utils

objects = [it for it in yaml.safe_load_all(sys.stdin) if it is not None]
mistakes = []
if sys.argv[1:2] == ["validate"]:
    # A file of schemas is a megabyte and is asked for once an object.
    utils.schema_contents = functools.cache(utils.schema_contents)
    versions = sorted({utils.major_minor(it) for it in utils.all_versions()}, key=lambda it: int(it.split(".")[1]))
    for it in objects:
        what = "{} {}".format(it["kind"], it["metadata"]["name"])
        if it["kind"] in sys.argv[2:]:
            continue
        for version in versions:
            try:
                utils.validate(it, version, strict=True)
            except utils.ValidationError as error:
                path = ".".join(str(step) for step in error.absolute_path)
                mistakes.append(f"{what}: Kubernetes {version}: {path}: {error.message}")
            except utils.SchemaNotFoundError as error:
                mistakes.append(f"{what}: {error.message}")
    print(f"held to Kubernetes {versions[0]} to {versions[-1]}", file=sys.stderr)
print("\n".join(mistakes), file=sys.stderr)
json.dump(objects, sys.stdout)
sys.exit(1 if mistakes else 0)
