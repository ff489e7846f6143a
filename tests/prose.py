#!/usr/bin/env python3
"""Flags prose that is hard to read: in Markdown files, and in comments of Rust and JavaScript.

    tests/prose.py                 all files
    tests/prose.py --markdown      the Markdown files only; also --rust, --js
    tests/prose.py FILE...         these files
    tests/prose.py --count         the number of flags of each file, in place of the flags
    tests/prose.py --self-test     checks the script itself

Prints `file:line: rule: excerpt` for each flag, and exits with 1 if there is one. The rules:

    subject      a sentence begins with who, what, whoever or where, and is not a question
    is-no        "is no" names what a thing is not ("is no longer" is allowed)
    as-ever      "as ever"
    long         a sentence has more than 30 words
    parenthesis  a parenthesis has more than 6 words

Headings, code and link targets are not prose. A code span counts as one word. In a table, each
cell is a text of its own, and cells that are mostly numbers have no limit of length.
"""

import pathlib
import re
import signal
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
if not (ROOT / "Cargo.toml").exists():
    ROOT = pathlib.Path.cwd()  # a copy of the script checks the folder it is started in
LONGEST_SENTENCE = 30
LONGEST_PARENTHESIS = 6

# (file, rule or "*", text that the excerpt contains, reason). An empty text allows all of a file.
ALLOWED = []

SUBJECT = re.compile(r"(Who|Whom|Whose|Whoever|What|Whatever|Where|Wherever)\b")
ABBREVIATION = re.compile(r"(\b(e\.g|i\.e|vs|cf|approx|Fig|St)|\b[A-Z])\.$")
END = re.compile(r"[.!?][)\"”'*_]*(?=\s+[\"“'(*_\[]*[A-Z0-9`\x01])")
WORD = re.compile(r"\S*[^\W_]\S*|\x01")
LIST_ITEM = re.compile(r"\s*([-*+]|\d+[.)])\s+")


class Text:
    """Prose of one block, with the line of each character."""

    def __init__(self, cell=False):
        self.text, self.lines, self.cell = "", [], cell

    def add(self, line, text):
        text = text.strip()
        if self.text and text:
            text = " " + text
        self.text += text
        self.lines += [line] * len(text)
        return self


def without_markup(line):
    """One line of Markdown without links' targets and emphasis; each code span is one character."""
    line = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "\x01", line)
    line = re.sub(r"<https?://[^>]*>", "\x01", line)
    line = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", line)
    line = re.sub(r"\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])", r"\1", line)
    line = re.sub(r"https?://\S+", "\x01", line)
    return line.replace("**", "")


def blocks(lines):
    """The blocks of prose in (line number, text) pairs that form one Markdown text."""
    found, current, fence, in_list, blank = [], None, None, False, True
    lines = list(lines)
    at = 0
    while at < len(lines):
        number, raw = lines[at]
        at += 1
        stripped = raw.strip()
        marker = re.match(r"(`{3,}|~{3,})", stripped)
        if fence:
            if marker and stripped.startswith(fence) and not stripped.strip(fence[0]):
                fence = None
            continue
        if marker:
            fence, current = marker[1], None
            continue
        if not stripped:
            current, blank = None, True
            continue
        after_blank, blank = blank, False
        if re.match(r"#{1,6}\s", stripped) or re.fullmatch(r"([-=*_]\s*){3,}", stripped):
            current, in_list = None, False
            continue
        if re.match(r"\[[^\]]+\]:\s", stripped) or stripped.startswith("<"):
            current = None
            continue
        if stripped.startswith("|"):
            current = None
            heading = at < len(lines) and re.fullmatch(r"\|[\s:|-]+\|?", lines[at][1].strip())
            if heading or re.fullmatch(r"\|[\s:|-]+\|?", stripped):
                continue
            for cell in without_markup(stripped).replace("\\|", "/").strip("|").split("|"):
                found.append(Text(cell=True).add(number, cell))
            continue
        item = LIST_ITEM.match(raw)
        indent = len(raw) - len(raw.lstrip())
        if after_blank and not in_list and indent >= 4:
            continue
        if indent == 0 and after_blank and not item:
            in_list = False
        if item:
            in_list, current, raw = True, None, raw[item.end():]
        raw = re.sub(r"^\s*>\s?", "", raw)
        # Tags of JavaScript's documentation begin blocks.
        tag = re.match(r"\s*@(?:(?:param|property|prop|template|typedef)\s*(?:\{[^}]*\})?\s*\S*|\w+\s*(?:\{[^}]*\})?)\s*", raw)
        if tag:
            current, raw = None, raw[tag.end():]
        # A code span or a link may go over the end of a line: those lines are joined.
        while (raw.count("`") % 2 or raw.count("[") > raw.count("]") or re.search(r"\]\([^)]*$", raw)) and at < len(lines):
            following = lines[at][1].strip()
            if not following or LIST_ITEM.match(following) or following.startswith(("|", "```")):
                break
            raw, at = raw.rstrip() + " " + following, at + 1
        if current is None:
            current = Text()
            found.append(current)
        current.add(number, without_markup(raw))
    return [block for block in found if block.text]


def sentences(text):
    """(offset, sentence) of each sentence."""
    start = 0
    for end in END.finditer(text):
        if text[end.start()] == "." and ABBREVIATION.search(text[:end.start() + 1]):
            continue
        yield start, text[start:end.end()]
        start = end.end() + 1
    yield start, text[start:]


def parentheses(text):
    """(offset, inside) of each parenthesis, innermost ones included."""
    open_at = []
    for at, character in enumerate(text):
        if character == "(":
            open_at.append(at)
        elif character == ")" and open_at:
            begin = open_at.pop()
            yield begin, text[begin + 1:at]


def mostly_numbers(text):
    words = WORD.findall(text)
    return sum(bool(re.search(r"\d", word)) for word in words) * 3 > len(words)


def flags_of(block):
    """(line, rule, excerpt) of each flag in a block."""
    text = block.text

    def flag(at, rule, excerpt):
        excerpt = re.sub(r"\s+", " ", excerpt.replace("\x01", "`…`")).strip()
        line = block.lines[min(at, len(block.lines) - 1)]
        return line, rule, excerpt if len(excerpt) <= 110 else excerpt[:107] + "…"

    for at, sentence in sentences(text):
        bare = sentence.lstrip(" \"“'(*_[")
        # A cell of a table is often only a name: there, a sentence has its capital.
        begins = bare if block.cell or at else bare[:1].upper() + bare[1:]
        if SUBJECT.match(begins) and not sentence.rstrip(" )\"”'*_").endswith("?"):
            yield flag(at, "subject", sentence)
        words = len(WORD.findall(sentence))
        if words > LONGEST_SENTENCE and not (block.cell and mostly_numbers(sentence)):
            yield flag(at, "long", f"({words} words) {sentence}")
    for found in re.finditer(r"\bis no\b(?! longer)", text):
        yield flag(found.start(), "is-no", text[max(0, found.start() - 40):found.end() + 40])
    for found in re.finditer(r"\bas ever\b", text):
        yield flag(found.start(), "as-ever", text[max(0, found.start() - 40):found.end() + 40])
    for at, inside in parentheses(text):
        words = len(WORD.findall(inside))
        if words > LONGEST_PARENTHESIS:
            yield flag(at, "parenthesis", f"({words} words) ({inside})")


# Rust: strings, raw strings, characters; JavaScript: strings, templates; comments of both.
RUST = re.compile(
    r'b?r(#*)"(?:.|\n)*?"\1|b?"(?:\\(?:.|\n)|[^"\\])*"|b?\'(?:\\.[^\']*|[^\'\\\n])\''
    r"|(?P<line>//[^\n]*)|(?P<block>/\*(?:.|\n)*?\*/)"
)
JAVASCRIPT = re.compile(
    r'"(?:\\(?:.|\n)|[^"\\\n])*"|\'(?:\\(?:.|\n)|[^\'\\\n])*\'|`(?:\\(?:.|\n)|[^`\\])*`'
    r"|(?P<line>//[^\n]*)|(?P<block>/\*(?:.|\n)*?\*/)"
    r"|(?<=[(,=:\[!&|?{};\n])[ ]*/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/"
)


def comments(source, pattern):
    """Lists of (line number, text), one for each run of comment lines."""
    run, last = [], None
    for found in pattern.finditer(source):
        line = source.count("\n", 0, found.start()) + 1
        begin = source.rfind("\n", 0, found.start()) + 1
        alone = not source[begin:found.start()].strip()
        if found["line"]:
            marker = re.match(r"//[/!]?(?!/)|/{4,}", found["line"])[0]
            text = found["line"][len(marker):].removeprefix(" ")
            here = (line, marker, found.start() - begin)
            if not (last and alone and last == (line - 1, marker, found.start() - begin)) and run:
                yield run
                run = []
            run.append((line, text))
            last = here if alone else None
            if not alone:
                yield run
                run = []
        elif found["block"]:
            if run:
                yield run
            run, last = [], None
            inside = re.sub(r"^/\*[*!]?|\*+/$", "", found["block"]).split("\n")
            yield [(line + n, re.sub(r"^\s*\* ?", "", text) if n else text.strip()) for n, text in enumerate(inside)]
    if run:
        yield run


def check(path):
    """The flags of one file, by line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        parts = [list(enumerate(text.split("\n"), 1))]
    else:
        parts = comments(text, RUST if path.suffix == ".rs" else JAVASCRIPT)
    found = [flag for part in parts for block in blocks(part) for flag in flags_of(block)]
    return sorted(found, key=lambda flag: flag[0])


def allowed(name, rule, excerpt):
    return any(
        name == file and only in ("*", rule) and text in excerpt for file, only, text, _reason in ALLOWED
    )


def files(kinds):
    """The files of the repository that are checked."""
    found = []
    if "md" in kinds:
        found += ROOT.glob("*.md")
        for folder in ("docs", "web", "certs", "systemd", "examples", "tests"):
            found += (ROOT / folder).rglob("*.md")
    if "rs" in kinds:
        found += (ROOT / "src").rglob("*.rs")
    if "js" in kinds:
        found += (ROOT / "web").rglob("*.js")
    return sorted(path for path in found if not {"node_modules", "vendor", "dist"} & set(path.parts))


GOOD = {
    "md": "# What it is\n\nThe daemon sends it (RFC 9000, section 4). What is a topic?\n\n```\nWho is no code\n```\n"
    "- `What` is a name. It is no longer sent, and [a link](who-is-no/as-ever.md) has a target.\n\n"
    "| What | Who |\n|---|---|\n| 1 2 3 | " + "4 " * 40 + "|\n",
    "rs": 'let a = "// Who is no comment"; let b = \'"\'; // The length in bytes.\nlet c = r#"// What"#;\n',
    "js": "const a = /\\/\\/ Who is no/; const b = `// What`; // The length.\n/** @param {string} what The topic. */\n",
}
BAD = {
    "md": [
        ("Who asks gets it.", "subject"),
        ("The end. Where UDP does not\npass, wait.", "subject"),
        ("- what is unknown is ignored", "subject"),
        ("That is no id.", "is-no"),
        ("It is sent as ever.", "as-ever"),
        ("one " * 31, "long"),
        ("It ends (one two three four five six seven).", "parenthesis"),
        ("| a | b |\n|---|---|\n| c | What it is |", "subject"),
    ],
    "rs": [
        ("let a = 1; // Who asks.", "subject"),
        ("/// The end.\n/// What follows\n/// is it.", "subject"),
        ("/* It is no id. */", "is-no"),
        ("/// " + "one " * 16 + "\n/// " + "two " * 16, "long"),
    ],
    "js": [("/**\n * A.\n * @param {x} y Who asks.\n */", "subject"), ("f(); // as ever, no", "as-ever")],
}


def self_test():
    with tempfile.TemporaryDirectory() as folder:
        for kind, text in GOOD.items():
            path = pathlib.Path(folder) / f"good.{kind}"
            path.write_text(text)
            assert check(path) == [], (kind, check(path))
        for kind, cases in BAD.items():
            path = pathlib.Path(folder) / f"bad.{kind}"
            for text, rule in cases:
                path.write_text("\n" + text + "\n")
                found = check(path)
                assert [flag[1] for flag in found] == [rule], (text, found)
                assert found[0][0] >= 2, found
    print(f"  {sum(map(len, BAD.values()))} bad texts are flagged, {len(GOOD)} good ones are not")


def main(arguments):
    kinds = {"--markdown": "md", "--rust": "rs", "--js": "js"}
    unknown = [a for a in arguments if a.startswith("--") and a not in (*kinds, "--count", "--self-test")]
    if unknown:
        print(__doc__, file=sys.stderr)
        return 2
    if "--self-test" in arguments:
        self_test()
        return 0
    named = [pathlib.Path(a).resolve() for a in arguments if not a.startswith("--")]
    wanted = {kinds[a] for a in arguments if a in kinds} or set(kinds.values())
    total = checked = 0
    for path in named or files(wanted):
        name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
        found = [flag for flag in check(path) if not allowed(name, flag[1], flag[2])]
        total, checked = total + len(found), checked + 1
        if "--count" not in arguments:
            for line, rule, excerpt in found:
                print(f"{name}:{line}: {rule}: {excerpt}")
        elif found:
            rules = sorted({flag[1] for flag in found})
            each = ", ".join(f"{rule} {sum(flag[1] == rule for flag in found)}" for rule in rules)
            print(f"{len(found):5} {name} ({each})")
    print(f"{total} flags in {checked} files", file=sys.stderr)
    return 1 if total else 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # for `tests/prose.py | head`
    sys.exit(main(sys.argv[1:]))
