"""How the OpenAPI schema says what is true of every operation, and of all that may be asked about by a tag."""

from typing import Any, Final

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from infra.errors import Code

_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "An RFC 9457 problem.",
    "required": ["type", "title", "status", "detail", "code", "trace_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"$ref": "#/components/schemas/ProblemCode"},
        "trace_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "code", "detail"],
                "properties": {
                    "field": {"type": "string"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}
_HEADERS: Final[dict[str, Any]] = {
    "X-Request-Id": {"required": True, "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{8,64}$"}},
}
_METHODS: Final = frozenset({"get", "put", "post", "delete", "patch"})

NOT_MODIFIED: Final = OpenApiResponse(description="The entity tag sent in `If-None-Match` is still that of the answer.")
TAG_HEADERS: Final = [
    OpenApiParameter("ETag", str, OpenApiParameter.HEADER, response=[200, 304]),
    OpenApiParameter("Cache-Control", str, OpenApiParameter.HEADER, response=[200, 304]),
]
"""What an answer made by infra.api.conditional carries."""


class ProblemAutoSchema(AutoSchema):
    """Operation ids and tags from the path; the rest is drf-spectacular's."""

    def get_tags(self) -> list[str]:
        """Group operations by the first part of the path after the version."""
        parts = [part for part in self.path.split("/") if part and not part.startswith("{")]
        return [parts[2] if len(parts) > 2 else parts[0]]

    def _get_request_body(self, direction: str = "request") -> Any:
        """Describe the body of a DELETE that takes one, which the library leaves out: OpenAPI 3.1 allows it."""
        if self.method != "DELETE" or not getattr(self.view, "takes_body_on_delete", False):
            return super()._get_request_body(direction)
        self.method = "POST"
        try:
            return super()._get_request_body(direction)
        finally:
            self.method = "DELETE"


def add_problem_responses(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Give every operation the `default` problem response and every answer its request id."""
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = _PROBLEM
    schemas["ProblemCode"] = {"type": "string", "enum": [code.value for code in Code]}
    for path in result.get("paths", {}).values():
        for method, operation in path.items():
            if method not in _METHODS:
                continue
            responses = operation.setdefault("responses", {})
            responses["default"] = {
                "description": "A problem; `code` says which.",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
            for response in responses.values():
                response.setdefault("headers", {}).update(_HEADERS)
    return result


def refuse_unknown_fields(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Say of every request body that it takes no other fields."""
    for name, schema in result.get("components", {}).get("schemas", {}).items():
        if name.endswith("Request") and schema.get("type") == "object":
            schema["additionalProperties"] = False
    return result
