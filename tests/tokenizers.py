"""Small real tokenizers, made in memory."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is false %}<think></think>{% endif %}"
    "{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)
ALPHABET = "".join(chr(code) for code in range(10, 127))


def letters(
    *,
    bos: bool = False,
    eos_behind: bool = False,
    alphabet: str = ALPHABET,
    control: tuple[str, ...] = ("<|im_start|>", "<|im_end|>"),
) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters and a few control tokens.

    Args:
        bos: whether it sets <s> before a text, as Llama's does.
        eos_behind: whether it sets </s> behind a text.
        alphabet: the characters that it knows.
        control: its control tokens, beside those.
    """
    words = ["<s>", "</s>", "<unk>", *control, *alphabet]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    if bos or eos_behind:
        core.post_processor = processors.TemplateProcessing(
            single="<s> " * bos + "$A" + " </s>" * eos_behind, special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(control),
    )


# The forms of five families of models, written small: what opens and ends turns, and what each does with the past.
FORMS = {
    # Says its own name where there is no system message; leaves the thoughts of turns before the last question out.
    "qwen": (
        ("<|im_start|>", "<|im_end|>"),
        "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% if messages[0].role != 'system' %}"
        "<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
        "{% for m in messages %}{% if m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n"
        "</tool_response><|im_end|>\n{% elif m.role == 'assistant' %}<|im_start|>assistant\n"
        "{{ m.content if loop.index0 > ns.last else m.content.split('</think>')[-1].lstrip() }}<|im_end|>\n"
        "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ),
    # Writes the day into its system message, trims what is said, calls tools ipython.
    "llama": (
        ("<|begin|>", "<|header|>", "<|end_header|>", "<|eot|>"),
        "<|begin|><|header|>system<|end_header|>\n\nToday: {{ day | default('monday') }}\n\n{% if messages[0].role == "
        "'system' %}{{ messages[0].content }}{% set messages = messages[1:] %}{% endif %}<|eot|>{% for m in messages %}"
        "<|header|>{{ 'ipython' if m.role == 'tool' else m.role }}<|end_header|>\n\n{{ m.content | trim }}<|eot|>"
        "{% endfor %}{% if add_generation_prompt %}<|header|>assistant<|end_header|>\n\n{% endif %}",
    ),
    # Puts the system message into the last question, ends only the policy's turns, and refuses two of one side.
    "mistral": (
        ("[INST]", "[/INST]"),
        "{% set system = messages[0].content + '\n\n' if messages[0].role == 'system' else '' %}{% if system %}"
        "{% set messages = messages[1:] %}{% endif %}<s>{% for m in messages %}{% if (m.role == 'user') != "
        "(loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
        "{% if m.role == 'user' %}[INST] {{ system if loop.last else '' }}{{ m.content }}[/INST]"
        "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
    ),
    # Knows no system message, calls the policy model; the end of a turn is not the end of text.
    "gemma": (
        ("<start_of_turn>", "<end_of_turn>"),
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}<s>"
        "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    ),
    # Ends a turn with a token of its own and writes the end of text where no turn is opened.
    "phi": (
        ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"),
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}"
        "<|assistant|>\n{% else %}</s>{% endif %}",
    ),
}


def family(name: str) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters with the control tokens and the chat template of a family of models."""
    control, template = FORMS[name]
    tokenizer = letters(control=control)
    tokenizer.chat_template = template
    return tokenizer


def chatty(template: str | dict[str, str] = CHATML, *, bos: bool = False) -> PreTrainedTokenizerFast:
    """The same with a chat template, or several by name."""
    tokenizer = letters(bos=bos)
    tokenizer.chat_template = template
    return tokenizer
