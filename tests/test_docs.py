"""What README.md, CONTRIBUTING.md and docs/ say agrees with the source, and nginx accepts every configuration in them."""

import re
import subprocess
import sys

import pytest

from harness import artifacts, config
from harness.server import check_config

ROOT = artifacts.REPOSITORY
SOURCE = ROOT / "src"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)

# nginx's name of each place in a configuration, and the flag of a directive that may stand there.
PLACES = {
    "http": "NGX_HTTP_MAIN_CONF",
    "server": "NGX_HTTP_SRV_CONF",
    "location": "NGX_HTTP_LOC_CONF",
    "if in location": "NGX_HTTP_LIF_CONF",
    "limit_except": "NGX_HTTP_LMT_CONF",
}
# The least and the most words behind a directive's name.
MANY = 99
ARGUMENTS = {
    "FLAG": (1, 1),
    "TAKE01": (0, 1),
    "TAKE1": (1, 1),
    "TAKE12": (1, 2),
    "TAKE23": (2, 3),
    "TAKE1234": (1, 4),
    "ONE_OR_MORE": (1, MANY),
    "TWO_OR_MORE": (2, MANY),
}


def text(path):
    return (ROOT / path).read_text()


# ---- the page about directives, against the table in the source ----


class Entry:
    """A section of docs/directives.md about one directive."""

    def __init__(self, name, body):
        self.name = name
        block = re.search(r"^```text\n(Syntax:.*?)```$", body, re.M | re.S)[1]
        fields = dict(re.findall(r"^(\w+): +(.*)$", block, re.M))
        self.syntax, self.default = fields["Syntax"], fields["Default"]
        self.contexts = set(fields["Context"].split(", "))
        self.examples = [code for language, code in FENCE.findall(body) if language == "nginx"]

    def arguments(self):
        """The least and the most words that the syntax allows."""
        words = self.syntax.removesuffix(" { ... }").removesuffix(";").removeprefix(self.name).replace(" | ", "|")
        if words.endswith("..."):
            return len(words.split()) - 1, MANY
        least = len(re.sub(r"\[.*\]", "", words).split())
        # What is named can be given again and in any order: nginx's table sets no limit for it.
        most = MANY if "=" in words and least > 1 else len(words.replace("[", " ").split())
        return least, most


def sections(page):
    """The sections of the third level: {heading: text}."""
    return dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", text(page), re.M | re.S))


ENTRIES = {name: Entry(name, body) for name, body in sections("docs/directives.md").items() if not name.startswith("$")}
DIRECTIVES = {name: entry for name, entry in ENTRIES.items() if entry.contexts != {"wsgi_app"}}


def flags(expression, constants):
    """The names of nginx's flags in an expression, through the constants that stand for several of them."""
    found = set()
    for word in re.findall(r"[A-Z_0-9]{3,}", expression):
        found |= flags(constants[word], constants) if word in constants else {word}
    return found


def table():
    """The directives of src/nginx/conf/commands.rs: {name: (places, least words, most words)}."""
    source = text("src/nginx/conf/commands.rs")
    constants = dict(re.findall(r"^const (\w+): ngx_uint_t = (.*?);$", source, re.M))
    rows = re.findall(r'(main|location)_command\(\s*ngx_string!\("(\w+)"\),\s*(.*?),', source)
    found = {}
    for kind, name, expression in rows:
        given = flags(expression, constants) | ({"NGX_HTTP_MAIN_CONF"} if kind == "main" else set())
        places = {place for place, flag in PLACES.items() if flag in given}
        arguments = next(words for word, words in ARGUMENTS.items() if re.search(rf"\b{word}\b", expression))
        found[name] = (places, *arguments)
    count = int(re.search(r"COMMANDS: \[ngx_command_t; (\d+)\]", source)[1])
    assert len(found) == count - 1, "each row of the table has been read, but for the empty one at its end"
    return found


TABLE = table()


def test_each_directive_has_an_entry_and_each_entry_a_directive():
    assert sorted(DIRECTIVES) == sorted(TABLE)


@pytest.mark.parametrize("name", DIRECTIVES)
def test_context(name):
    assert DIRECTIVES[name].contexts == TABLE[name][0]


@pytest.mark.parametrize("name", DIRECTIVES)
def test_arguments(name):
    assert DIRECTIVES[name].arguments() == TABLE[name][1:]


def value(word):
    """A default as it is stored: a flag, a time in milliseconds or a size in bytes."""
    if word in ("on", "off"):
        return int(word == "on")
    number, unit = re.fullmatch(r"(\d+)(s|k|m|)", word).groups()
    return int(number) * {"s": 1000, "k": 1 << 10, "m": 1 << 20, "": 1}[unit]


def defaults():
    """What merging sets where nobody has set anything: {directive: value}."""
    source = text("src/nginx/conf/mod.rs")
    rows = re.findall(r"inherit\(&mut conf\.(\w+), prev\.\w+, (.*?)\);", source)
    return {f"wsgi_{field}": eval(number) for field, number in rows if f"wsgi_{field}" in TABLE}


def test_the_defaults_are_found():
    """All that a merge sets but flags that are inherited by other means."""
    inherited = re.findall(r"^    inherit\(&mut conf\.(\w+)", text("src/nginx/conf/mod.rs"), re.M)
    assert len(inherited) > 10 and {f"wsgi_{field}" for field in inherited} & set(TABLE) == set(defaults())


@pytest.mark.parametrize("name", defaults())
def test_default(name):
    said = DIRECTIVES[name].default
    assert said.startswith(f"{name} ") and said.endswith(";")
    assert value(said.split()[1].rstrip(";")) == defaults()[name]


def test_the_default_pool():
    source = text("src/nginx/conf/setters.rs")
    pool = re.search(r'name: "default".*?threads: (\d+), queue: (\d+)', source)
    assert DIRECTIVES["wsgi_pool"].default == f"wsgi_pool default threads={pool[1]} queue={pool[2]};"


def test_directives_in_wsgi_app():
    source = text("src/nginx/conf/app_block.rs")
    known = re.search(r'^ +((?:"\w+" \| )+"\w+") if !alone', source, re.M)[1]
    inner = {*re.findall(r'"(\w+)"', known), "path"}
    assert '"path" if words.is_empty()' in source
    assert {name for name, entry in ENTRIES.items() if entry.contexts == {"wsgi_app"}} == inner


def test_each_variable_has_an_entry_and_each_entry_a_variable():
    known = re.findall(r'\(ngx_string!\("(\w+)"\), Shows::', text("src/nginx/variables.rs"))
    entries = [name.removeprefix("$") for name in sections("docs/directives.md") if name.startswith("$")]
    assert sorted(entries) == sorted(known) and len(known) > 5


def test_the_fields_that_may_be_ignored():
    known = re.search(r"IGNORABLE: .*?= \[(.*?)\];", text("src/nginx/accel.rs"), re.S)[1]
    entry = sections("docs/directives.md")["wsgi_ignore_headers"]
    fields = re.findall(r'"([\w-]+)"', known)
    assert len(fields) == 9 and not [field for field in fields if f"`{field}`" not in entry]


# ---- what nginx says to it ----


@pytest.fixture(scope="module")
def virtualenv(tmp_path_factory):
    path = tmp_path_factory.mktemp("docs") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True)
    return path


def place(line, where):
    """A configuration with `line` in the place of that name."""
    location = {
        "location": line,
        "if in location": f"if ($arg_x) {{\n{line}\n}}",
        "limit_except": f"limit_except GET {{\n{line}\n}}",
    }.get(where, "return 204;")
    server = f"server {{ listen 127.0.0.1:@PORT@; {line if where == 'server' else ''} location / {{ {location} }} }}"
    return (line if where == "http" else "") + "\n" + server


def statement(entry):
    """The entry's directive in its first example."""
    code = entry.examples[0]
    block = re.search(rf"^ *{entry.name} [^;{{]*\{{.*?^ *\}}", code, re.M | re.S)
    return (block or re.search(rf"^ *{entry.name} [^;]*;", code, re.M))[0]


ADAPTATIONS = (
    (r"^(?:user|pid|error_log) [^;]+;", ""),
    (r"load_module [^;]+;", f"load_module @MODULE@; {config.user()} pid @DIR@/nginx.pid; error_log @DIR@/error.log;"),
    (r"\blisten [^;]+;", "listen 127.0.0.1:@PORT@;"),
    (r"virtualenv /[^;]+;", "virtualenv @VENV@;"),
    (r"/var/\S+/", "@DIR@/"),
    (r"^http \{", f"http {{\n{config.temp_paths()}\naccess_log off;"),
)


def adapted(code, virtualenv):
    """An example with paths and ports that exist here."""
    for pattern, replacement in ADAPTATIONS:
        code = re.sub(pattern, replacement, code, flags=re.M)
    return code.replace("@VENV@", str(virtualenv))


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("name", DIRECTIVES)
def test_nginx_takes_it_where_the_page_says_and_nowhere_else(tmp_path, virtualenv, name, where):
    entry = DIRECTIVES[name]
    line = adapted(statement(entry), virtualenv)
    text = config.whole(place(line, where), with_python=False)
    if name == "wsgi_temp_path":
        text = text.replace("wsgi_temp_path @DIR@/wsgi_temp;", "", 1)  # the preamble's own
    accepted, output, _ = check_config(tmp_path, text)
    assert accepted == (where in entry.contexts), output
    assert accepted or f'"{name}" directive is not allowed here' in output


def statements(code):
    """The statements of a piece of configuration, each with its block: [(name, text)]."""
    found, depth, start = [], 0, 0
    for match in re.finditer(r'"[^"\n]*"|#[^\n]*|[{};]', code):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0 and match[0] in ("}", ";"):
            found.append(code[start : match.end()].strip())
            start = match.end()
    assert not code[start:].strip(), code
    return [(re.match(r"\w+", each)[0], each) for each in found]


HTTP = {"server", "log_format", *(name for name, entry in DIRECTIVES.items() if entry.contexts == {"http"})}


def whole(code):
    """An example as a whole configuration, whatever part of one it is."""
    all_of_it = statements(code)
    names = {name for name, _ in all_of_it}
    if "http" in names:
        return code

    def those(test):
        return "\n".join(each for name, each in all_of_it if test(name))

    main, http = those(lambda name: name == "env"), those(lambda name: name in HTTP)
    rest = those(lambda name: name not in HTTP | {"env"})
    if "location" not in names:
        rest = f"location / {{\n{rest}\n}}"
    server = f"server {{ listen 127.0.0.1:@PORT@;\n{rest}\n}}"
    return config.whole(f"{http}\n{server}", main, with_python=False)


EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, (language, code) in enumerate(FENCE.findall(page.read_text()))
    if language == "nginx"
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_nginx_accepts_every_example(tmp_path, virtualenv, code):
    accepted, output, _ = check_config(tmp_path, whole(adapted(code, virtualenv)))
    assert accepted, output
    assert "[emerg]" not in output


def test_the_configuration_of_the_readme_has_ten_lines():
    first = next(code for language, code in FENCE.findall(text("README.md")) if language == "nginx")
    assert len(first.splitlines()) == 10


# ---- what the pages point to ----


NAMED_TEST = re.compile(r"`(test_\w+\.py|\w+\.rs)::(\w+)`")
FUNCTIONS = {".py": ("tests", "def"), ".rs": ("src/python/tests", "fn")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tests_that_a_page_names_exist(page):
    for file, function in NAMED_TEST.findall(page.read_text()):
        folder, keyword = FUNCTIONS[file[-3:]]
        assert re.search(rf"^{keyword} {function}\(", text(f"{folder}/{file}"), re.M), f"{file} has no {function}"


def test_every_clause_of_pep_3333_has_a_test():
    rows = re.findall(r"^\| .* \|$", text("docs/wsgi.md").partition("## PEP 3333, clause by clause")[2], re.M)
    clauses = rows[1:]
    assert len(clauses) > 35
    for row in clauses:
        assert NAMED_TEST.search(row.split(" | ")[-1]), row


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page):
    named = re.findall(r"`((?:src|tests|docs|script|build|benches|examples|nginx-conf)/[\w./-]*)`", page.read_text())
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()) if "://" not in link]
    missing = [each for each in named if not (ROOT / each).exists()]
    missing += [link for link in links if not (page.parent / link).exists()]
    assert not missing


def anchors(page):
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_headings_that_a_page_links_to_exist(page):
    for file, anchor in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", page.read_text()):
        target = page.parent / file if file else page
        assert anchor in anchors(target), f"{target.name} has no #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_wsgi_name_on_a_page_exists(page):
    words = text("src/nginx/variables.rs") + " ".join(TABLE)
    known = {*re.findall(r"\bwsgi_\w+", words), "wsgi_temp"}
    assert set(re.findall(r"(?<![\w/])wsgi_[a-z_]+\b(?!\.(?:so|py))", page.read_text())) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_on_a_page_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.M))
    assert set(re.findall(r"(?:`|^ {4}|^\$ )make ([a-z-]+)", page.read_text(), re.M)) <= targets


def test_every_make_target_of_the_workflow_exists():
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.M))
    called = re.findall(r"targets: ([a-z -]+?) (?:\}|#)", text(".github/workflows/ci.yml"))
    assert called and {target for each in called for target in each.split()} <= targets


def test_the_oldest_rust_is_the_same_everywhere():
    version = re.search(r'^rust-version = "(.*)"', text("Cargo.toml"), re.M)[1]
    assert re.search(rf"Rust\s+{re.escape(version)} or newer", text("README.md"))
    assert f"image: {version}-" in text(".github/workflows/ci.yml")


def test_every_source_file_is_on_the_map():
    page = text("docs/architecture.md").partition("## The map")[2]
    on_it = set(re.findall(r"`(src/[\w./]+)`", page))
    files = {str(path.relative_to(ROOT)) for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".md"}
    off_it = [file for file in files - on_it if not any(file.startswith(each) for each in on_it if each.endswith("/"))]
    assert not [file for file in off_it if "__pycache__" not in file]


def test_the_changelog_has_the_version_that_is_built():
    version = re.search(r'^version = "(.*)"', text("Cargo.toml"), re.M)[1]
    assert re.search(rf"^## {re.escape(version)}\b", text("CHANGELOG.md"), re.M)
