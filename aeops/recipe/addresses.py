"""Addresses that a source may name in the place of a path: object stores, web servers, databases. Standard library only.

A recipe is committed, so an address in it holds no credential: passwords and keys come from the environment.
"""

from urllib.parse import urlsplit

STORE_SCHEMES = ("s3", "gs", "http", "https")
DATABASE_SCHEMES = ("postgresql", "sqlite", "mysql", "mariadb", "mssql", "oracle")
MARK = "://"


def is_address(path: str) -> bool:
    """Return whether a source's path is an address."""
    return MARK in path


def is_database_address(path: str) -> bool:
    """Return whether an address is SQLAlchemy's of a database, such as postgresql+pg8000://user@host/name.

    >>> is_database_address("postgresql+pg8000://me@db/shop"), is_database_address("s3://bucket/x.csv")
    (True, False)
    """
    return is_address(path) and path.partition(MARK)[0].partition("+")[0] in DATABASE_SCHEMES


def address_errors(path: str) -> list[str]:
    """Return why an address cannot stand in a recipe; nothing where it can, or where the path is none.

    The messages never repeat the address, as it may hold a secret.
    """
    if not is_address(path):
        return []
    scheme = path.partition(MARK)[0].partition("+")[0]
    if scheme not in (*STORE_SCHEMES, *DATABASE_SCHEMES):
        return [f"path: expected an address that begins with {', '.join(STORE_SCHEMES)} or a database's, got {scheme[:20]}://"]
    try:
        parts = urlsplit(path)
        has_password = parts.password is not None
    except ValueError:
        return ["path: expected an address such as https://host/folder/file.csv, got one that cannot be read"]
    if has_password or (parts.username is not None and scheme in STORE_SCHEMES):
        return ["path: expected an address without a password, since a recipe is committed: put it in the environment"]
    if scheme in STORE_SCHEMES and (parts.query or parts.fragment):
        return ["path: expected an address without ? and #, which may hold a key: credentials come from the environment"]
    if scheme in STORE_SCHEMES and not parts.netloc:
        return ["path: expected an address with a host or a bucket"]
    return []
