"""The alphabet of byte-level BPE, GPT-2's: one printable character for each byte.

Printable characters of Latin-1 stand for themselves, the other bytes for U+0100 onwards, in order.
"""

THEMSELVES = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
OTHERS = [byte for byte in range(256) if byte not in THEMSELVES]
BYTES = {chr(byte): byte for byte in THEMSELVES} | {chr(256 + i): byte for i, byte in enumerate(OTHERS)}
"""Character → byte."""
