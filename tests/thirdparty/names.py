"""Topics and filters, as in the section "Topics and filters" of docs/protocol.md."""

import unicodedata

BAD_TOPIC, BAD_FILTER, RESERVED = 0x20, 0x21, 0x23


def topic_code(name):
    """The code that a topic of this name is refused with, or None if it is good."""
    segments = name.split("/")
    if _bad(name, segments) or "*" in name:
        return BAD_TOPIC
    return RESERVED if segments[0] == "$weir" else None


def filter_code(pattern):
    """The code that this filter is refused with, or None if it is good."""
    segments = pattern.split("/")
    for index, segment in enumerate(segments):
        if "*" in segment and segment != "*" and not (segment == "**" and index == len(segments) - 1):
            return BAD_FILTER
    return BAD_FILTER if _bad(pattern, segments) else None


def matches(pattern, topic):
    """Whether a good filter matches a topic."""
    pattern, topic = pattern.split("/"), topic.split("/")
    if topic[0] == "$weir" and pattern[0] in ("*", "**"):
        return False
    if pattern[-1] == "**":
        pattern.pop()
        topic = topic[: len(pattern)]
    return len(pattern) == len(topic) and all(p in ("*", t) for p, t in zip(pattern, topic))


def _bad(name, segments):
    return (
        not all(segments)
        or any(segment in (".", "..") for segment in segments)
        or len(segments) > 16
        or len(name.encode()) > 255
        or any(unicodedata.category(char) == "Cc" for char in name)
    )
