"""File trees as data: what is in one, and the plan to make one like the other.

Pure: no file is touched here. Paths are bytes, relative to the tree's root, their
parts joined by ``/``: as the file system has them, whatever their encoding.
"""

from mlepool.tree.entries import (
    FILE,
    FOLDER,
    LINK,
    MAX_PATH,
    MAX_TIME,
    Entry,
    content_of,
    digest_of,
    order_of,
    tree_digest,
)
from mlepool.tree.outline import (
    Group,
    make_groups,
    make_outline,
    pack_outline,
    unpack_outline,
)
from mlepool.tree.pages import PageReader, decode_pages, encode_pages
from mlepool.tree.plan import Plan, check_plan, make_plan

__all__ = [
    "FILE",
    "FOLDER",
    "LINK",
    "MAX_PATH",
    "MAX_TIME",
    "Entry",
    "Group",
    "PageReader",
    "Plan",
    "check_plan",
    "content_of",
    "decode_pages",
    "digest_of",
    "encode_pages",
    "make_groups",
    "make_outline",
    "make_plan",
    "order_of",
    "pack_outline",
    "tree_digest",
    "unpack_outline",
]
