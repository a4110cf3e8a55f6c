"""The rules that make LaTeX and plain notation uniform. Each has an example, and a test runs every example."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}

Replacement = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern that is replaced wherever it stands in an answer."""

    name: str  # what it makes uniform
    pattern: str
    replacement: Replacement
    before: str  # an example
    after: str  # what this rule alone makes of the example
    compiled: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "compiled", re.compile(self.pattern))  # the class is frozen

    def apply(self, text: str) -> str:
        """The text with every occurrence replaced."""
        return self.compiled.sub(self.replacement, text)


def _base(found: re.Match[str]) -> str:
    return f"_{{{_BASES.get(found.group(1), found.group(1))}}}"


def _choices(found: re.Match[str]) -> str:
    """A number of choices (C) or of arrangements (A, P) of k out of n, both written out as factorials can be read."""
    n, k = (found.group(name).strip("{ }") for name in "nk")
    if n.isdigit() and k.isdigit() and int(k) > int(n):
        return found.group()
    return f"\\binom{{{n}}}{{{k}}}" if found.group("kind") == "C" else f"\\frac{{{n}!}}{{({n}-{k})!}}"


def _chosen(found: re.Match[str]) -> str:
    n, k = found.groups()
    return f"\\binom{{{n}}}{{{k}}}" if int(k) <= int(n) else found.group()


def _primes(found: re.Match[str]) -> str:
    return "'" * (found.group().count("prime") + found.group().count("'"))


def _minutes(found: re.Match[str]) -> str:
    degrees, minutes, seconds = (int(part or 0) for part in found.groups())
    return f"\\frac{{{degrees * 3600 + minutes * 60 + seconds}}}{{3600}}^\\circ"


def _joined(found: re.Match[str]) -> str:
    return re.sub(r"[ _]", "", found.group(1))


_FONTS = r"\\(?:math(?:bf|sf|tt|it|normal|op)|bold|boldsymbol|bm|pmb)"  # of letters and numbers, and of words at times
_SIZE = r"(?:\{\s*\d{1,3}\s*\}|\{\s*[nmkr]\s*\}|[\dnmkr])"  # how many there are, and how many are chosen

# Applied in this order to every answer: a rule may rely on what the rules before it have made uniform.
RULES = (
    Rule(
        "sizes of brackets",
        r"\\(?:m?left|m?right|middle|[bB]igg?[lr]?)(?![a-zA-Z])\s*\.?(?=[\s()\[\]{}|\\<>/]|$)\s*",
        "",
        r"\left( 1, 2\right)",
        "( 1, 2)",
    ),
    Rule(
        "text in other fonts",
        r"\\(?:textnormal|textrm|textsf|texttt|textup|textsc|textsl|textmd|textit|emph|hbox)(?=\s*\{)",
        r"\\text",
        r"5\textnormal{ miles}",
        r"5\text{ miles}",
    ),
    Rule(
        "words in other fonts",
        _FONTS + r"(?=\s*\{[^{}\\]*[A-Za-z]{2}[^{}\\]*\})",
        r"\\text",
        r"\mathsf{odd}",
        r"\text{odd}",
    ),
    Rule(
        "fonts, and lines below",
        r"(?:"
        + _FONTS
        + r"|\\(?:underline|uline|underbrace|mathstrut)"
        + r"|\\(?:text|textbf|mathrm)(?=\s*\{\s*\\[dtc]?(?:frac|sqrt)))(?![a-zA-Z])",
        "",
        r"\underline{12}",
        "{12}",
    ),
    Rule("sizes of binomials", r"\\[dt]binom(?![a-zA-Z])", r"\\binom", r"\dbinom{5}{2}", r"\binom{5}{2}"),
    Rule("binomial without braces", r"\\binom\s*(\d)\s*(\d)", r"\\binom{\1}{\2}", r"\binom52", r"\binom{5}{2}"),
    Rule(
        "choose alone",
        r"^([^{}\\]+)\\choose(?![a-zA-Z])([^{}]+)$",
        r"\\binom{\1}{\2}",
        r"5 \choose 2",
        r"\binom{5 }{ 2}",
    ),
    Rule(
        "letter of choices",
        r"\\(?:text|mathrm|mathbf|operatorname)\s*\{\s*([CA])\s*\}(?=\s*[_^])",
        r"\1",
        r"\mathrm{C}_5^2",
        "C_5^2",
    ),
    Rule(
        "choices, all first",
        rf"(?<![A-Za-z\\])(?P<kind>[CA])\s*_\s*(?P<n>{_SIZE}|\d{{2,3}})\s*\^\s*(?P<k>{_SIZE})(?![\d!^])",
        _choices,
        "C_5^2",
        r"\binom{5}{2}",
    ),
    Rule(
        "choices, chosen first",
        rf"(?<![A-Za-z\\])(?P<kind>[CA])\s*\^\s*(?P<k>{_SIZE})\s*_\s*(?P<n>{_SIZE})(?![\d!^])",
        _choices,
        "A^2_5",
        r"\frac{5!}{(5-2)!}",
    ),
    Rule(
        "choices, all in front",
        rf"(?:\{{\s*\}}|(?<![\w)}}\]])(?=[_^]))\s*[_^]\s*(?P<n>{_SIZE})\s*(?P<kind>[CP])\s*_\s*(?P<k>{_SIZE})",
        _choices,
        "{}_5C_2",
        r"\binom{5}{2}",
    ),
    Rule(
        "choices, as calculators write them",
        r"(?<![\w.^])(\d{1,3})C_?(\d{1,3})(?![\w^])",
        _chosen,
        "5C2",
        r"\binom{5}{2}",
    ),
    Rule(
        "decimal logarithm",
        r"\\lg(?![a-zA-Z])|(?<![\\a-zA-Z])lg(?=\s*[\d({])",
        r"\\log_{10} ",
        r"\lg 5",
        r"\log_{10}  5",
    ),
    Rule(
        "minutes of an angle",
        r"(\d+)\s*\^\s*(?:\\circ|\{\s*\\circ\s*\})\s*(\d+)\s*(?:'|\^\s*(?:\\prime|\{\s*\\prime\s*\}))(?!')(?:\s*(\d+)\s*(?:''|\"|\^\s*\{\s*\\prime\s*\\prime\s*\}))?",
        _minutes,
        r"30^\circ 30'",
        r"\frac{109800}{3600}^\circ",
    ),
    Rule(
        "primes",
        r"\^\s*(?:\\prime(?![a-zA-Z])|\{\s*(?:(?:\\prime(?![a-zA-Z])|')\s*)+\})",
        _primes,
        r"f^{\prime\prime}",
        "f''",
    ),
    Rule("sign in braces", r"(?<![\^_])\{\s*([-+:=])\s*\}", r"\1", "{-}5", "-5"),
    Rule(
        "functions as words",
        r"(?<![\\a-zA-Z{])(a?(?:rc)?(?:sin|cos|tan)|cot|sec|csc|ln|log|exp)(?=\s*[\d({_^\\]|\s+[a-zA-Z](?![a-zA-Z]))",
        r"\\\1 ",
        "ln x",
        r"\ln  x",
    ),
    Rule("upright i and e", r"\\(?:mathrm|operatorname)\s*\{\s*([ie])\s*\}", r"\1 ", r"3\mathrm{i}", "3i "),
    Rule(
        "transposed row",
        r"^\s*(\([^()]*,[^()]*\)|\[[^\[\]]*,[^\[\]]*\])\s*\^\s*\{?\s*(?:T|\\top|\\intercal)\s*\}?\s*$",
        r"\1",
        "(1, 2)^T",
        "(1, 2)",
    ),
    Rule("vector in signs", r"^\s*<([^<>]*,[^<>]*)>\s*$", r"(\1)", "<1, 2>", "(1, 2)"),
    Rule("segments", r"\\overline\s*\{\s*([A-Z]{2})\s*\}", r"\1", r"\overline{AB}", "AB"),
    Rule("blackboard letters", r"\\mathbb\s+([A-Z])(?![a-zA-Z])", r"\\mathbb{\1}", r"\mathbb R", r"\mathbb{R}"),
    Rule("negation", r"^\s*~\s*(?=[A-Za-z])", r"\\neg ", "~p", r"\neg p"),
    Rule(
        "decimal comma in braces",
        r"(?<=\d)\{,\}(?=(?:\d{1,2}|\d{4,})(?!\d))|(?<![\d}.,])(0)\{,\}(?=\d)",
        r"\1.",
        "2{,}5",
        "2.5",
    ),
    Rule("thousands with a negative space", r"(?<=\d),?\\!\s*,?\s*(?=\d{3}(?!\d))", "", r"10,\!000", "10000"),
    Rule("thousands of programmers", r"(?<![\w.])(\d{1,3}(?:_\d{3})+)(?![\w^])", _joined, "1_000_000", "1000000"),
    Rule("comma with a negative space", r",\\!\s*", ",", r"1,\! 2", "1,2"),
    Rule("thousands with a thin space", r"(?<=\d)(?:\\,|\{,\}|\\ |~)\s*(?=\d{3}(?!\d))", "", r"10\,000", "10000"),
    Rule("comma in braces", r"\{,\}", ",", "(1{,}2)", "(1,2)"),
    Rule("quoted answer", r"^\s*['‘](.*?)['’][\s.]*$", r"\1", "'yes'", "yes"),
    Rule("sizes of fractions", r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", r"\dfrac{1}{2}", r"\frac{1}{2}"),
    Rule("at most", r"\\(?:leq|leqslant)(?![a-zA-Z])|<=", r"\\le ", r"x \leq 2", r"x \le  2"),
    Rule("at least", r"\\(?:geq|geqslant)(?![a-zA-Z])|>=", r"\\ge ", "x >= 2", r"x \ge  2"),
    Rule("less than", r"\\lt(?![a-zA-Z])", "<", r"x \lt 2", "x < 2"),
    Rule("greater than", r"\\gt(?![a-zA-Z])", ">", r"x \gt 2", "x > 2"),
    Rule("not equal", r"\\ne(?![a-zA-Z])|!=", r"\\neq ", "x != 2", r"x \neq  2"),
    Rule("left brace by name", r"\\(?:lbrace)(?![a-zA-Z])", r"\\{", r"\lbrace 1, 2\}", r"\{ 1, 2\}"),
    Rule("right brace by name", r"\\(?:rbrace)(?![a-zA-Z])", r"\\}", r"\{1, 2\rbrace", r"\{1, 2\}"),
    Rule("left bracket by name", r"\\(?:lbrack)(?![a-zA-Z])", "[", r"\lbrack 1, 2]", "[ 1, 2]"),
    Rule("right bracket by name", r"\\(?:rbrack)(?![a-zA-Z])", "]", r"[1, 2\rbrack", "[1, 2]"),
    Rule("left angle bracket", r"\\(?:langle|lparen)(?![a-zA-Z])", "(", r"\langle 1, 2)", "( 1, 2)"),
    Rule("right angle bracket", r"\\(?:rangle|rparen)(?![a-zA-Z])", ")", r"(1, 2\rangle", "(1, 2)"),
    Rule(
        "commands of layout",
        r"\\(?:displaystyle|textstyle|limits|nonumber|notag|hfill|"
        r"tiny|scriptsize|footnotesize|small|normalsize|[lL]arge|LARGE|[hH]uge)(?![a-zA-Z])",
        " ",
        r"\displaystyle x",
        "  x",
    ),
    Rule(
        "conjunction as text",
        r"\\(?:text|mbox|mathrm|textrm|textnormal|hbox)\s*\{\s*,?\s*(and|or|et|ou|und|oder)\s*\}",
        r" \1 ",
        r"2\text{ and }3",
        "2 and 3",
    ),
    Rule("empty text", r"\\(?:text|mbox|mathrm)\s*\{\s*,?\s*\}", " ", r"2\text{ }", "2 "),
    Rule(
        "introduction as text",
        r"^\s*\\(?:text|mbox|mathrm)\s*\{(?:(?!\bnot\b|n't)[^{}])*(?:\bis|[:=])\s*\}(?=.*\w)",
        "",
        r"\text{the answer is }5",
        "5",
    ),
    Rule("number with a base as text", r"\\text\s*\{\s*(\d+)\s*\}(?=\s*_)", r"\1", r"\text{204}_5", "204_5"),
    Rule(
        "colours and bold",
        r"\\(?:text)?color\s*\{[^{}]*\}|\\(?:ensuremath|bf|rm|it)(?![a-zA-Z])",
        "",
        r"\color{red}5",
        "5",
    ),
    Rule(
        "fraction of units",
        r"\\frac\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]*)\}\s*\}\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]*)\}\s*\}",
        r"\\text{\1/\2}",
        r"\frac{\text{m}}{\text{s}}",
        r"\text{m/s}",
    ),
    Rule("time of day", r"(?<=\d)\s*([AaPp])\.\s?[Mm]\b\.?", r" \1m", "5 p.m.", "5 pm"),
    Rule("big union", r"\\(big)(?=c[ua]p(?![a-zA-Z]))", r"\\", r"A\bigcup B", r"A\cup B"),
    Rule(
        "degrees Celsius and Fahrenheit",
        r"\^\s*\{?\s*\\circ\s*\}?\s*([CF])$",
        r"^\\circ\\text{\1}",
        r"20^\circ C",
        r"20^\circ\text{C}",
    ),
    Rule("modulo", r"\\bmod(?![a-zA-Z])", r"\\mod ", r"3 \bmod 5", r"3 \mod  5"),
    Rule("element of", r"\\in(?![a-zA-Z])\s*", r"\\in ", r"x\in   A", r"x\in A"),
    Rule("natural logarithm", r"\\log\s*_\s*(?:e|\{\s*e\s*\})", r"\\ln ", r"\log_e 5", r"\ln  5"),
    Rule(
        "binomial by choose",
        r"\{([^{}\\]+)\\choose(?![a-zA-Z])([^{}]+)\}",
        r"\\binom{\1}{\2}",
        r"{5 \choose 2}",
        r"\binom{5 }{ 2}",
    ),
    Rule(
        "angle in degrees",
        r"(\\(?:sin|cos|tan|cot|sec|csc)(?:\^\{?\d\}?)?\s*[({]?\s*)(\d+(?:\.\d+)?)\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ)",
        r"\1\\frac{\2\\pi}{180}",
        r"\sin 30^\circ",
        r"\sin \frac{30\pi}{180}",
    ),
    Rule(
        "open on the left, the French way",
        r"(?:^|(?<=\\cup)|(?<=\\in ))\s*\]([^\[\],;]*[,;][^\[\]]*)(?=[\[\]]\s*(?:$|\\cup))",
        r" (\1",
        "]0, 1]",
        " (0, 1]",
    ),
    Rule(
        "open on the right, the French way",
        r"(?<=[(\[])([^()\[\],;]*[,;][^()\[\]]*)\[(?=\s*(?:$|\\cup))",
        r"\1)",
        "[0, 1[",
        "[0, 1)",
    ),
    Rule("and in other languages", r"(?<![^\W_])(?:et|und|[,;] ?and)(?![^\W_])", " and ", "2 und 3", "2  and  3"),
    Rule("or in other languages", r"(?<![^\W_])(?:ou|oder|[,;] ?or)(?![^\W_])", " or ", "2 oder 3", "2  or  3"),
    Rule("or without spaces", r"(?<=[\d)}])or(?=[A-Za-z(\\\d])", " or ", "2orx", "2 or x"),
    Rule("logical and", r"\\(?:and|land)(?![a-zA-Z])", " and ", r"A \land B", "A  and  B"),
    Rule("logical or", r"\\(?:lor)(?![a-zA-Z])", " or ", r"A \lor B", "A  or  B"),
    Rule("wide space before a letter", r"\\q?quad(?=[A-Za-z])", " ", r"2\quadx", "2 x"),
    Rule("negative space", r"(?<!\\)\\!(?![a-zA-Z\s])", "", r"9\!:\!45", "9:45"),
    Rule("spaces of LaTeX", r"(?<!\\)\\(?:q?quad|hspace\{[^{}]*\}|,|;|:|!| )|~", " ", r"2\;3", "2 3"),
    Rule(
        "root of brackets",
        r"\\sqrt\s*\(([^()]*)\)|(?<![\\a-zA-Z])sqrt\s*\(([^()]*)\)",
        r"\\sqrt{\1\2}",
        "sqrt(x)",
        r"\sqrt{x}",
    ),
    Rule("root of a number, as a word", r"(?<![\\a-zA-Z])sqrt\s*(\d+(?:\.\d+)?)", r"\\sqrt{\1}", "sqrt 2", r"\sqrt{2}"),
    Rule("root with braces, as a word", r"(?<![\\a-zA-Z])sqrt\s*(?=\{)", r"\\sqrt ", "sqrt {2}", r"\sqrt {2}"),
    Rule("root without braces", r"\\sqrt\s*(\d)", r"\\sqrt{\1}", r"\sqrt2", r"\sqrt{2}"),
    Rule("fraction without braces", r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", r"\frac12", r"\frac{1}{2}"),
    Rule(
        "fraction of letters",
        r"\\frac(?:\s+([a-zA-Z])|\s*(\d))\s*([a-zA-Z])(?![a-zA-Z])",
        r"\\frac{\1\2}{\3}",
        r"\frac ab",
        r"\frac{a}{b}",
    ),
    Rule("fraction of a letter", r"\\frac\s+([a-zA-Z])\s*(\d)", r"\\frac{\1}{\2}", r"\frac a2", r"\frac{a}{2}"),
    Rule("fraction without braces above", r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{", r"\frac1{2}", r"\frac{1}{2}"),
    Rule(
        "fraction without braces below", r"\\frac\s*(\{[^{}]*\})\s*(\d)", r"\\frac\1{\2}", r"\frac{1}2", r"\frac{1}{2}"
    ),
    Rule("symbols as words", r"(?<![\\a-zA-Z])(pi|infinity|infty|theta)(?![a-zA-Z])", r"\\\1 ", "2 pi", r"2 \pi "),
    Rule("infinity by its long name", r"\\infinity", r"\\infty", r"\infinity", r"\infty"),
    Rule("power of programmers", r"(?<=[\w)}])\s*\*\*\s*(?=[\w({\\-])", "^", "x**2", "x^2"),
    Rule("exponent in brackets", r"\^\s*\(([^()]*)\)", r"^{\1}", "x^(2+1)", "x^{2+1}"),
    Rule("product of programmers", r"(?<=[\w)}])\s*\*\s*(?=[\w({\\-])", r"\\cdot ", "2*x", r"2\cdot x"),
    Rule(
        "dollars alone",
        r"^(-?)\s*\\\$\s*([\d.,]*\d)\s*$",
        r"\1\2\\text{ dollars}",
        r"\$ 18.90",
        r"18.90\text{ dollars}",
    ),
    Rule(
        "signs of currencies",
        r"\\(?:textdollar|pounds|euro|EUR|yen|textsterling|texteuro)(?![a-zA-Z])|\\\$|[$€£¥₹₽₩₫₪₺]",
        " ",
        "€ 5",
        "  5",
    ),
    Rule(
        "currencies by their names",
        r"^\s*(?:USD|US|EUR|GBP|INR|Rs\.?|CAD|AUD|CNY|RMB|JPY)\s*(?=[-\d.])",
        "",
        "USD 18.90",
        "18.90",
    ),
    Rule("thousands with spaces", r"(?<![\d.])(\d{1,3}(?: \d{3})+)(?![\d ]*\d)", _joined, "10 000", "10000"),
    Rule(
        "approximation before", r"^\s*(?:[A-Za-z]\w*)?\s*\\(?:approx|simeq|doteq)(?![a-zA-Z])", "", r"x \approx 2", " 2"
    ),
    Rule("approximation behind", r"\s*\\(?:approx|simeq|doteq)(?![a-zA-Z]).*", "", r"\pi \approx 3.14", r"\pi"),
    Rule(
        "base as a word",
        r"_\{?\s*\\(?:text|mathrm|mbox)\s*\{\s*([a-z]+)\s*\}\s*\}?",
        _base,
        r"204_{\text{five}}",
        "204_{5}",
    ),
    Rule("underlined answer", r"^__(.+)__$", r"\1", "__5__", "5"),
    Rule("white space", r"\s+", " ", "2   x", "2 x"),
)
