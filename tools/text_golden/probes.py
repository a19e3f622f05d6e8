# SPDX-License-Identifier: Apache-2.0
"""One-line templates, each for one construct in which template engines differ, and the variables they see."""

MESSAGES = [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Yo"}]
VARIABLES = {
    "s": "  it's a Text\u00a0", "ctl": "\x1c a \x1f", "lines": "one\ntwo\n\nthree\n", "crlf": "a\r\nb\rc\u2028d\x0be",
    "odd": "a\u200b\xa0\u2028'\"\\\x7f\x01é😀", "word": "MiXed straße ﬁ", "csv": "a,b,,c", "empty": "", "zero": 0,
    "f": 1.5, "tiny": 1e-7, "huge": 1e22, "edge": 0.0001, "whole": 3.0, "big": 10**20, "bigger": 10**45, "neg": -7, "yes": True, "nothing": None,
    "xs": [3, 1, 2], "ys": ["b", "a"], "mixed": [1, "a", None, True, 1.5, 1e-7, {"k": [1e22]}], "nil": [],
    "d": {"b": 1, "a": [1, {"x": None}], "c c": "<&>'\""}, "nod": {}, "people": [{"name": "Bo", "age": 3, "tags": {"t": "u"}}, {"name": "Al", "age": 1, "tags": {"t": "v"}}],
}

TEMPLATES = r"""
{{ s|trim }}|{{ ctl|trim }}|{{ nothing|trim }}|{{ 5|trim }}|{{ undef|trim }}|{{ "xxaxx"|trim("x") }}
{{ s.strip() }}|{{ ctl.strip() }}|{{ ctl.lstrip() }}|{{ ctl.rstrip() }}|{{ "xxaxx".strip("x") }}|{{ "xya".lstrip("yx") }}|{{ "\n a \n".strip("\n") }}
{{ s.split() }}|{{ csv.split(",") }}|{{ csv.split(",", 1) }}|{{ csv.split(",", maxsplit=2) }}|{{ csv.rsplit(",", 1) }}|{{ " a b  c ".split(none, 1) }}|{{ " a b  c ".rsplit(None, 1) }}|{{ ctl.split() }}|{{ " a b ".split(maxsplit=0) }}|{{ csv.split(sep=",") }}
{{ csv.split("") }}
{{ csv.partition(",") }}|{{ csv.rpartition(",") }}|{{ csv.partition("x") }}|{{ csv.rpartition("x") }}
{{ csv.removeprefix("a,") }}|{{ csv.removesuffix("c") }}|{{ csv.removeprefix("z") }}
{{ csv.find("b") }}|{{ csv.rfind(",") }}|{{ csv.find("z") }}|{{ csv.index("b") }}|{{ csv.rindex(",") }}|{{ csv.find(",", 2) }}|{{ csv.find(",", 2, 3) }}|{{ odd.find("é") }}|{{ csv.find("", 9) }}
{{ csv.index("zz") }}
{{ word.swapcase() }}|{{ s.title() }}|{{ s|title }}|{{ word.upper() }}|{{ word.lower() }}|{{ word|upper }}|{{ word.capitalize() }}|{{ word|capitalize }}
{{ "42".zfill(5) }}|{{ "-42".zfill(5) }}|{{ "a".ljust(3) }}|{{ "a".rjust(3, "*") }}|{{ "ab".center(5, "-") }}|{{ "abc".center(6, "-") }}|{{ "a".center(4, "-") }}|{{ "abc".center(2) }}
{{ crlf.splitlines() }}|{{ crlf.splitlines(True) }}|{{ lines.splitlines() }}|{{ "".splitlines() }}|{{ lines.splitlines(keepends=true) }}
{{ "aXbXc".replace("X", "-") }}|{{ "aXbXc".replace("X", "-", 1) }}|{{ "abc".replace("", "-") }}|{{ "aXbXc"|replace("X", "-") }}|{{ "aXbXc"|replace("X", "-", 1) }}|{{ 121|replace(1, "x") }}
{{ csv.count(",") }}|{{ xs.count(1) }}|{{ xs.index(2) }}|{{ csv.startswith("a") }}|{{ csv.endswith(("c", "z")) }}|{{ csv.startswith(("x", "a")) }}
{{ xs.index(9) }}
{{ xs.copy() }}|{{ d.copy() }}|{{ d.keys()|list }}|{{ d.values()|list }}|{{ d.items()|list }}|{{ d.get("b") }}|{{ d.get("z") }}|{{ d.get("z", 5) }}|{{ d|items|list }}
{{ ", ".join(ys) }}|{{ "-".join("abc") }}|{{ "".join([]) }}
{{ ", ".join([1, 2]) }}
{{ "{} and {1}".format("a", "b") }}
{{ "{} and {}".format("a", 1) }}|{{ "{0}-{x}".format("a", x=2) }}|{{ "{:>4}|{:.2f}".format(1, 1.239) }}
{{ "a".isdigit() }}|{{ "12".isdigit() }}|{{ "ab".isalpha() }}|{{ "a1".isalnum() }}|{{ " ".isspace() }}|{{ "".isspace() }}|{{ "Ab".isupper() }}|{{ "ab".islower() }}
{{ d|tojson }}|{{ mixed|tojson }}|{{ odd|tojson }}|{{ odd|tojson(ensure_ascii=true) }}|{{ odd|tojson(True) }}
{{ d|tojson(indent=2) }}|{{ d|tojson(indent=0) }}|{{ d|tojson(indent="\t") }}|{{ d|tojson(false, 1) }}|{{ nil|tojson(indent=2) }}|{{ nod|tojson(indent=2) }}
{{ d|tojson(separators=(",", ":")) }}|{{ d|tojson(sort_keys=true) }}|{{ d|tojson(indent=1, separators=(";", "=")) }}
{{ {2: 2, none: 3, true: 4, 1.5: 5}|tojson }}
{{ tiny|tojson }}|{{ huge|tojson }}|{{ edge|tojson }}|{{ whole|tojson }}|{{ big|tojson }}|{{ bigger|tojson }}|{{ (0.0 * -1)|tojson }}|{{ none|tojson }}|{{ (xs + ys)|tojson }}|{{ xs[::-1]|tojson }}|{{ (1, 2)|tojson }}|{{ range(3)|list|tojson }}
{{ undef|tojson }}
{{ [undef]|tojson }}
{{ d|tojson(bogus=1) }}
{{ "<a href='x'>&\""|tojson }}|{{ ("<"|tojson)|length }}|{{ "<"|e }}|{{ "'\"&<>"|escape }}|{{ ("<"|e)|e }}|{{ "<b>"|safe }}
{{ lines|indent }}|{{ lines|indent(2) }}|{{ lines|indent(2, true) }}|{{ lines|indent(width=3, first=True, blank=True) }}|{{ lines|indent("> ") }}|{{ "{\n"|indent(4, first=True) }}|{{ ""|indent }}|{{ crlf|indent(1) }}
{{ nothing|indent }}
{{ undef|length }}|{{ s|length }}|{{ odd|count }}|{{ d|length }}|{{ xs|count }}|{{ ""|length }}|{{ (xs + ys)|length }}
{{ nothing|length }}
{{ 5|length }}
{{ xs|join }}|{{ xs|join(", ") }}|{{ mixed|join(" ") }}|{{ people|join("/", attribute="name") }}|{{ people|join("/", "tags.t") }}|{{ "abc"|join("-") }}|{{ undef|join(",") }}|{{ d|join(",") }}|{{ xs|join(d=";") }}
{{ nothing|join }}
{{ mixed }}|{{ d }}|{{ (1,) }}|{{ (1, "a") }}|{{ () }}|{{ [odd] }}|{{ ["it's"] }}|{{ ['q"'] }}|{{ ["'\""] }}|{{ {"a": (1, [2])} }}
{{ tiny }}|{{ huge }}|{{ edge }}|{{ whole }}|{{ big }}|{{ bigger }}|{{ 1e16 }}|{{ 1e-5 }}|{{ 0.1 + 0.2 }}|{{ 7 / 2 }}|{{ 6 / 2 }}|{{ 7 // 2 }}|{{ neg // 2 }}|{{ neg % 3 }}|{{ 2 ** 10 }}|{{ 2 ** -1 }}|{{ true }}|{{ none }}|{{ undef }}
{{ tiny|string }}|{{ huge ~ "" }}|{{ "" ~ tiny }}|{{ none ~ true ~ 1.0 }}|{{ mixed|string }}|{{ undef|string }}|{{ 1 ~ 2 ~ "x" }}|{{ [1, "a"] ~ {} }}
{{ tiny is number }}|{{ tiny is float }}|{{ bigger is number }}|{{ bigger is integer }}|{{ 1 is float }}|{{ 1.0 is float }}|{{ true is number }}|{{ "1" is number }}|{{ 1 is integer }}|{{ true is integer }}|{{ true is boolean }}
{{ none is iterable }}|{{ undef is iterable }}|{{ "" is iterable }}|{{ d is iterable }}|{{ xs is iterable }}|{{ 5 is iterable }}|{{ tiny is iterable }}
{{ none is sequence }}|{{ undef is sequence }}|{{ "" is sequence }}|{{ d is sequence }}|{{ (1,) is sequence }}|{{ range(2) is sequence }}|{{ 5 is sequence }}
{{ d is mapping }}|{{ xs is mapping }}|{{ s is string }}|{{ none is none }}|{{ undef is defined }}|{{ undef is undefined }}|{{ d.z is defined }}|{{ d.b is defined }}|{{ true is true }}|{{ 0 is false }}|{{ 4 is even }}|{{ 4 is divisibleby 2 }}|{{ 4 is divisibleby(2) }}|{{ raise_exception is callable }}|{{ 5 is callable }}|{{ 5 is in xs }}|{{ 3 is eq 3 }}|{{ 3 is gt(2) }}|{{ "a" is lower }}
{{ "x" if undef }}|{{ "x" if nil else "y" }}|{{ "z" if nod else "w" }}|{{ 1 if tiny else 2 }}|{{ undef in xs }}|{{ "a" in undef }}|{{ "b" in d }}|{{ 1 not in xs }}|{{ 1 < 2 < 3 }}
{{ undef.x }}
{{ undef + "x" }}
{{ "x" + 1 }}
{{ "x" + none }}
{{ d.z.y }}
{{ d["z"] }}|{{ xs[9] }}|{{ xs[-1] }}|{{ s[2:6] }}|{{ xs[1:] }}|{{ xs[:-1] }}|{{ xs[::-1] }}|{{ odd[::-1] }}|{{ d["a"][1].x }}|{{ d.a.1.x }}|{{ s[99:] }}
{{ "%s and %r"|format("a", "b") }}|{{ "%s"|format(1e22) }}|{{ "%s %s"|format(none, mixed) }}|{{ "%d%%"|format(5) }}|{{ "%.2f|%5d|%-5s|%05d"|format(1.239, 42, "a", 42) }}|{{ "%(a)s"|format(a=1) }}|{{ "%x"|format(255) }}
{{ "12"|int }}|{{ "x"|int }}|{{ "x"|int(7) }}|{{ "1.9"|int }}|{{ 1.9|int }}|{{ none|int }}|{{ true|int }}|{{ "0x1f"|int(base=16) }}|{{ "ff"|int(0, 16) }}|{{ " 7 "|int }}|{{ undef|int }}|{{ nil|int }}|{{ huge|int }}|{{ tiny|int }}
{{ "1.5"|float }}|{{ "x"|float }}|{{ none|float }}|{{ 3|float }}|{{ "x"|float(2.5) }}|{{ undef|float }}|{{ tiny|float }}|{{ "1e3"|float }}
{{ "abc"|list }}|{{ undef|list }}|{{ d|list }}|{{ xs|list }}|{{ range(3)|list }}|{{ (1, 2)|list }}
{{ nothing|list }}
{% for x in nothing %}x{% else %}e{% endfor %}
{% for x in undef %}x{% else %}e{% endfor %}
{% for x in 5 %}x{% endfor %}
{% for c in "héy" %}{{ loop.index }}{{ c }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }},{% endfor %}
{% for i in 1, 2 %}{{ i }}{% endfor %}
{% for x in xs if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% else %}none{% endfor %}
{% for x in (xs if yes else ys) %}{{ x }}{% endfor %}|{% for x in [y for_ if 0] %}{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}|{% for k in d %}{{ k }}{% endfor %}|{% for k, v in d|dictsort %}{{ k }}{% endfor %}
{% for x in xs %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {{ loop.cycle("o", "e") }}{{ loop.first }}{{ loop.changed(x > 1) }} {% endfor %}
{% for x in xs %}{% if x == 1 %}{% continue %}{% endif %}{% if loop.index == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is sequence else x }}{{ loop.depth }}{% endfor %}
{% set ns = namespace(n=0, t="") %}{% for x in xs %}{% set ns.n = ns.n + x %}{% set ns.t = ns.t ~ x %}{% endfor %}{{ ns.n }}{{ ns.t }}
{% set x = 1 %}{% for y in xs %}{% set x = y %}{% endfor %}{{ x }}|{% if true %}{% set z = 2 %}{% endif %}{{ z }}
{% macro m(a, b=2, c="x") %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, c=3) }}|{{ m(1, 2, 3)|length }}|{{ m() }}
{% macro w(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call w("b") %}in{% endcall %}
{% macro deep(n) %}{{ n }}{% if n > 0 %}{{ deep(n - 1) }}{% endif %}{% endmacro %}{{ deep(20) }}
{% filter upper %}abc{{ s }}{% endfilter %}|{% set t %}  x {{ 1 + 1 }} {% endset %}[{{ t }}]|{% with q = 5 %}{{ q }}{% endwith %}{{ q }}
{% generation %}{% set inner = 1 %}g{% endgeneration %}{{ inner }}|{%- generation -%} h {%- endgeneration -%} !
{% for m in messages %}{% generation %}{{ loop.index }}{{ m.content }}{% endgeneration %}{% endfor %}
{% raw %}{{ not }} {% for x in y %}{% endraw %}|{# {{ nor }} #}|{{ "{% raw %}" }}|{{ '{{' }}|{{ "}}" }}
{{ raise_exception("Only <user> & \"assistant\" — é") }}
{% if messages|length > 1 %}{{ raise_exception("Too many: " ~ messages|length) }}{% endif %}
{% macro f() %}{{ raise_exception("in a macro") }}{% endmacro %}{% for x in xs %}{{ f() }}{% endfor %}
{% set x = raise_exception("in a set") %}
{{ people|map(attribute="name")|list }}|{{ people|map(attribute="zip", default="-")|join }}|{{ people|selectattr("age", "gt", 2)|map(attribute="name")|list }}|{{ people|rejectattr("age", "equalto", 1)|list|length }}|{{ xs|select("odd")|list }}|{{ ys|map("upper")|list }}|{{ people|selectattr("tags.t", "in", ["u"])|list|length }}|{{ people|selectattr("name")|list|length }}
{{ xs|first }}|{{ xs|last }}|{{ xs|sort }}|{{ xs|sort(reverse=true) }}|{{ people|sort(attribute="age")|map(attribute="name")|join }}|{{ xs|max }}|{{ xs|min }}|{{ xs|sum }}|{{ xs|reverse|list }}|{{ xs|unique|list }}|{{ neg|abs }}|{{ 2.567|round(1) }}|{{ 2.5|round }}
{{ undef|default("d") }}|{{ none|default("d") }}|{{ ""|default("d", true) }}|{{ undef|d("e") }}|{{ d.z|default(xs)|tojson }}
{{ "a" "b" }}|{{ "a" * 3 }}|{{ xs + [4] }}|{{ [0] * 2 }}|{{ -neg }}|{{ - 1 + 2 * 3 }}|{{ (1 + 2) * 3 }}|{{ 1 - -1 }}|{{ 10 - 2 ~ "x" }}|{{ 2 * 3 ~ 4 }}|{{ xs|length + 1 }}|{{ loop is defined }}|{{ not true or true }}
{{ dict(a=1, b="x") }}|{{ dict(a=1)|tojson }}|{{ {"a": 1}.a }}|{{ {"items": 5}["items"] }}
{{ bos_token }}{{ eos_token }}{{ unk_token }}{{ image_token }}|{{ pad_token is defined }}|{{ tools is none }}|{{ documents is none }}|{{ add_generation_prompt }}
{{- "a" -}}  b  {%- if true %} c {% endif -%}  d
{%+ if true %}x{%+ endif %} y
{{ 'a\nb' }}|{{ "tab\t" }}|{{ 'q\'q' }}|{{ "\u00e9" }}|{{ '\\' }}
{{ word|lower|replace("x", "") }}|{{ s|trim|length + 2 }}|{{ "a,b"|replace(",", "")|upper ~ "!" }}|{{ xs[0] + xs[1] * xs[2] }}|{{ (xs + ys)|length * 2 }}
{% if s is string and s|length > 2 and not (d is string) %}y{% elif 1 %}n{% endif %}
{% set a, b = 1, 2 %}{{ a + b }}|{% set l = [1, 2,] %}{{ l }}|{% set d2 = {"x": 1,} %}{{ d2.x }}
{{ namespace(a=1).a }}|{{ namespace({"b": 2}).b }}|{{ lines.split("\n")[1] }}|{{ lines.split("\n")|length }}|{{ range(1, 8, 3)|list }}|{{ range(3, 0, -1)|list }}
{{ messages[0]["content"] }}|{{ messages[-1].role }}|{{ messages[:1]|length }}|{{ messages|last|tojson }}|{{ messages[0].content.split(" ")[0] }}|{{ messages|map(attribute="role")|join(",") }}
{{ [].append(1) }}
{{ d.update({"q": 1}) }}
{{ d.pop("b") }}
{{ s.nosuch() }}
{{ nosuch() }}
{{ s|nosuch }}
{{ s is nosuch }}
{{ 1 / 0 }}
{% if %}
{{ unclosed
{% endfor %}
{% for x in xs %}
""".strip("\n").split("\n")

# Templates whose text spans lines.
TEMPLATES += [
    "{% for x in xs %}\n  {% if x > 1 %}\n    {{ x }}\n  {% endif %}\n{% endfor %}\nend\n",
    "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\nc\rd",
    "{# note #}\n{{ 1 }}\n{# note #} x\n  {#- y -#}  \nz\n\n",
    "{% set x %}\n  a\n{% endset %}\n[{{ x }}]\n{%- for c in 'ab' -%}\n  {{ c }}\n{%- endfor %}\n",
    "  {% generation %}\n  g\n  {% endgeneration %}\nafter\n",
    "{{\n  s\n  | trim\n}}\n{%\n for x\n in xs\n if x\n %}{{ x }}{% endfor %}",
    "",
    "plain { text } with % and # and }} %} #}",
]
