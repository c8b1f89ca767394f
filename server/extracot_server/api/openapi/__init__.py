"""The OpenAPI document: schemas, examples, and what each route says of itself."""
