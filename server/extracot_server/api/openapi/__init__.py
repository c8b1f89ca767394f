"""The OpenAPI document: schemas, examples, and descriptions of the routes."""
