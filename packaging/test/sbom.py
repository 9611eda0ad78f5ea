"""sbom.py FILE: whether a list of what is linked keeps to CycloneDX's schema, of the release that it names."""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

with open(sys.argv[1], encoding="utf-8") as file:
    text = file.read()
release = SchemaVersion.from_version(json.loads(text)["specVersion"])
complaint = JsonStrictValidator(release).validate_str(text)
if complaint is not None:
    sys.exit(f"{sys.argv[1]}: {str(complaint).splitlines()[0]}")
print(f"keeps to the schema of {release.to_version()}")
