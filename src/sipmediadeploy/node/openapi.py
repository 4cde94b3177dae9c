"""The OpenAPI description of the agent's API, made from its operations and their models. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

_REFERENCE = "#/components/schemas/{model}"
_OWN_SCHEMAS = {
    "Refusal": {
        "title": "Refusal",
        "type": "object",
        "required": ["detail"],
        "properties": {"detail": {"type": "string", "description": "why, for an operator"}},
    },
    "HTTPValidationError": {
        "title": "HTTPValidationError",
        "type": "object",
        "required": ["detail"],
        "properties": {
            "detail": {"type": "array", "items": {"$ref": "#/components/schemas/ValidationError"}}
        },
    },
    "ValidationError": {
        "title": "ValidationError",
        "type": "object",
        "required": ["loc", "msg", "type"],
        "properties": {
            "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
            "msg": {"type": "string"},
            "type": {"type": "string"},
        },
    },
}
_ANY = {"text/plain": {"schema": {"type": "string"}}, "application/json": {"schema": {"type": "object"}}}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: Literal["GET", "POST", "PUT"]
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    """Its name and its docstring are those of the operation."""
    answer: type[BaseModel] | Literal["text/plain", "application/json"]
    """The model of a JSON answer, or the type of another one."""
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    refusals: tuple[int, ...] = ()
    """Other answers than 200, beside 401 (all have it) and 422 (all with a body or a query have it)."""


def describe(operations: Sequence[Operation], title: str, version: str) -> dict[str, Any]:
    """The description of an API that has these operations, each with a bearer token (OpenAPI 3.1.0)."""
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = []
    for one in operations:
        if isinstance(one.answer, type):
            models.append((one.answer, "serialization"))
        models += [(model, "validation") for model in (one.body, one.query) if model is not None]
    _, definitions = models_json_schema(models, ref_template=_REFERENCE)
    schemas: dict[str, Any] = definitions["$defs"]
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        query = schemas[one.query.__name__] if one.query is not None else {}
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, query)
    asked = {one.query.__name__ for one in operations if one.query is not None}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {name: schema for name, schema in schemas.items() if name not in asked} | _OWN_SCHEMAS,
        },
    }


def _operation(one: Operation, query: dict[str, Any]) -> dict[str, Any]:
    name = one.handler.__name__
    content = _json(one.answer.__name__) if isinstance(one.answer, type) else {one.answer: _ANY[one.answer]}
    responses = {"200": {"description": "Successful Response", "content": content}}
    for status in sorted({HTTPStatus.UNAUTHORIZED, *one.refusals}):
        responses[str(int(status))] = _refused(HTTPStatus(status).phrase, "Refusal")
    if one.body is not None or one.query is not None:
        responses["422"] = _refused("Validation Error", "HTTPValidationError")
    described: dict[str, Any] = {
        "summary": name.capitalize(),
        "description": one.handler.__doc__,
        "operationId": f"{name}{one.path.replace('/', '_')}_{one.method.lower()}",
        "responses": responses,
    }
    if one.body is not None:
        described["requestBody"] = {"content": _json(one.body.__name__), "required": True}
    if query:
        described["parameters"] = [
            {"name": key, "in": "query", "required": key in query.get("required", ()), "schema": schema}
            for key, schema in query["properties"].items()
        ]
    return described


def _refused(description: str, model: str) -> dict[str, Any]:
    return {"description": description, "content": _json(model)}


def _json(model: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model)}}}
