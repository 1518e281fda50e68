"""Reading a sweep's YAML file: names and lists of names, and nothing else that YAML allows."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from fmiqa_utils.errors import InputError, first_line
from fmiqa_utils.files.regular import open_regular

MAX_BYTES = 2**20
DEEPEST = 2  # a mapping of lists


class _Loader(yaml.SafeLoader):
    """YAML for names and lists of names only: no tags, no references, no deeper nesting, no name twice."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node. Raises InputError for an alias, an anchor, a tag, and for lists in lists."""
        event = self.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InputError(f"line {line} holds a reference (& or *): write the names out.")
        if getattr(event, "tag", None):
            raise InputError(f"line {line} holds a tag ({event.tag}): leave it out.")
        self.depth += 1
        if self.depth > DEEPEST + 1:
            raise InputError(f"line {line} is nested too deep: a field holds a name or a list of names.")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping. Raises InputError for a name given twice."""
        seen: dict[object, int] = {}
        for key, _ in node.value:
            name, line = self.construct_object(key, deep=True), key.start_mark.line + 1
            if isinstance(name, Hashable) and seen.setdefault(name, line) != line:
                raise InputError(f"lines {seen[name]} and {line} both give {name!r}: give it once.")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[Any, Any]:
    """The names and values of a YAML file, unchanged.

    Raises InputError for a file that is missing, forbidden, not regular, larger than `MAX_BYTES` or not UTF-8, and for one that is not a
    mapping or holds tags, references, a name twice or lists in lists.
    """
    with open_regular(path, "a sweep's file", MAX_BYTES) as file:
        data = file.read(MAX_BYTES + 1)
    try:
        text = data.decode("utf-8-sig")
        content = yaml.load(text, _Loader)  # a SafeLoader that accepts less
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not text in UTF-8 (byte {data[error.start]:#04x} at {error.start}): save it again as UTF-8."
        ) from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} cannot be read as YAML: {_reason(error)}.") from error
    except (ValueError, OverflowError, RecursionError) as error:  # an impossible date or number
        raise InputError(f"{path} holds a value that cannot be read: {first_line(error)}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold names and values, such as datasets: [live, tid2013].")
    return content


def _reason(error: yaml.YAMLError) -> str:
    """What is wrong and where, on one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem is None:
        return first_line(error)
    where = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
    return f"{error.problem}{where}"
