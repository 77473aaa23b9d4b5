"""HDF5 files that are changed in a test."""

import hashlib

import h5py


def change_hdf5(path, change):
    """Changes an HDF5 file through h5py; one with a digest gets the digest of its new bytes."""
    with h5py.File(path, "r+") as file:
        change(file)
    content = path.read_bytes()
    if content.startswith(b"sciml"):
        digest = hashlib.sha256(content[512:]).hexdigest()
        line = f"sciml HDF5, SHA-256 of the bytes from 512 on: {digest}\n".encode()
        path.write_bytes(line + bytes(512 - len(line)) + content[512:])


def flipped(content, bit):
    """Bytes with one other bit."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
