#!/usr/bin/env python3
"""Checks the lines of `dietesp show --format json` on standard input against schemas/show.json, and that the schema notices
a member that is missing, wrong or unknown.
"""

import copy
import json
import pathlib
import sys

import jsonschema

SCHEMA = json.loads((pathlib.Path(__file__).parents[2] / "schemas/show.json").read_text())


def main():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    lines = [json.loads(line) for line in sys.stdin]
    for line in lines:
        validator.validate(line)
    described = set(SCHEMA["properties"])
    seen = {name for line in lines for name in line}
    assert described - seen <= {"unexplained"}, described - seen
    explained = next(line for line in lines if line.get("rows"))
    failed = next(line for line in lines if line.get("candidates"))
    for original, change in [
        (explained, lambda line: line.pop("clear_text")),
        (explained, lambda line: line.update(more=1)),
        (explained, lambda line: line["rows"][0].pop("origin")),
        (explained, lambda line: line["rows"][0].update(bits="2")),
        (explained, lambda line: line["rows"][0].update(origin="found")),
        (failed, lambda line: line["candidates"][0].update(tried="no")),
        (failed, lambda line: line["candidates"][0].update(reason="")),
    ]:
        damaged = copy.deepcopy(original)
        change(damaged)
        assert not validator.is_valid(damaged), damaged
    print(len(lines))


if __name__ == "__main__":
    main()
