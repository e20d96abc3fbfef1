"""Unpacks tests/machines/NAME.tree: python3 machine_tree.py NAME DESTINATION"""

import io
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
MARK = "== "


def entries(text):
    """(header, content lines) of each entry; what stands before the first is a comment."""
    header, content = None, []
    for line in io.StringIO(text):
        if line.startswith(MARK):
            if header is not None:
                yield header, content
            header, content = line[len(MARK):].strip(), []
        else:
            content.append(line)
    if header is not None:
        yield header, content


def place_of(root, path):
    """Where `path` goes under `root`, its directory made; never outside of `root`."""
    place = root / path.lstrip("/")
    parent = place.parent.resolve()
    if not path.startswith("/") or not parent.is_relative_to(root):
        raise ValueError(f"{path} leads out of the tree")
    parent.mkdir(parents=True, exist_ok=True)
    return parent / place.name


def unpack_text(text, destination):
    root = pathlib.Path(destination)
    root.mkdir(parents=True, exist_ok=True)
    root = root.resolve()
    for header, content in entries(text):
        kind, path, *rest = header.split()
        place = place_of(root, path)
        if kind == "file":
            place.write_text("".join(content), encoding="utf-8")
        elif kind == "hex":
            place.write_bytes(bytes.fromhex("".join(content)))
        elif kind == "fill":
            place.write_bytes(rest[1].encode() * int(rest[0]))
        elif kind == "dir":
            place.mkdir(exist_ok=True)
        elif kind == "link" and rest[0] == "->":
            place.symlink_to(rest[1])
        elif kind == "node":
            place.touch()
            place.chmod(int(rest[0], 8))
            if os.geteuid() == 0:
                os.chown(place, int(rest[1]), int(rest[2]))
        else:
            raise ValueError(f"unknown entry: {header}")


def unpack(name, destination):
    """Makes the files of the machine `name` below the directory `destination`."""
    unpack_text((HERE / f"{name}.tree").read_text(encoding="utf-8"), destination)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    unpack(sys.argv[1], sys.argv[2])
