"""One line of a data set: where its texts stand, how they are edited, and what makes two of them the same."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from minimind import lossless
from minimind.cleaning import units

CONVERSATIONS = {"sft": ("conversations",), "dpo": ("chosen", "rejected"), "prompts": ("messages", "conversations")}
"""Under which keys a data set's messages stand."""

SPOKEN = ("reasoning_content", "content")
"""Under which keys the texts of a message stand."""


class Record:
    """A line that is a JSON object with text or messages in it."""

    def __init__(self, data: dict[str, Any], data_set: str):
        self.data, self.data_set = data, data_set

    @classmethod
    def of(cls, line: bytes, data_set: str) -> "Record | None":
        """None where there is nothing to clean: `pack` says of such a line what is wrong with it."""
        try:
            data = lossless.line(line)
        except ValueError:
            return None
        if not isinstance(data, dict):
            return None
        record = cls(data, data_set)
        if data_set == "pretrain":
            usable = isinstance(data.get("text"), str)
        else:
            found = record.conversations
            usable = bool(found) and all(
                isinstance(messages, list) and all(isinstance(message, dict) for message in messages)
                for messages in found.values()
            )
        return record if usable else None

    @property
    def conversations(self) -> dict[str, list[dict[str, Any]]]:
        """Its lists of messages by their key."""
        return {key: self.data[key] for key in CONVERSATIONS.get(self.data_set, ()) if key in self.data}

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All of them, one list after the other."""
        return [message for messages in self.conversations.values() for message in messages]

    def edit(self, change: Callable[[str], str]) -> bool:
        """Replace every text by what `change` makes of it; whether any became another. JSON of tools is left alone."""
        slots = [(self.data, "text")] if self.data_set == "pretrain" else []
        slots += [(message, key) for message in self.messages for key in SPOKEN]
        edited = False
        for holder, key in slots:
            old = holder.get(key)
            if isinstance(old, str) and (new := change(old)) != old:
                holder[key], edited = new, True
        if edited:
            self.__dict__.pop("texts", None)
            self.__dict__.pop("units", None)
        return edited

    @cached_property
    def texts(self) -> list[str]:
        """The document, or what each message thinks and says, without repeats."""
        if self.data_set == "pretrain":
            return [self.data["text"]]
        said = (message.get(key) for message in self.messages for key in SPOKEN)
        return list(dict.fromkeys(text for text in said if isinstance(text, str)))

    @property
    def prose(self) -> str:
        """All that it says."""
        return "\n".join(self.texts)

    @cached_property
    def units(self) -> list[str]:
        """The words and Han characters of the prose."""
        return units.split(self.prose)

    @property
    def identity(self) -> bytes:
        """What makes two records the same: the text, or messages and tools, whatever else stands beside them."""
        if self.data_set == "pretrain":
            return self.data["text"].encode()
        return lossless.dumps([self.conversations, self.data.get("tools")], sort_keys=True)

    def line(self) -> bytes:
        """As it is written to a file."""
        return lossless.dumps(self.data) + b"\n"
