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


def letters(*, bos: bool = False, eos_behind: bool = False, alphabet: str = ALPHABET) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters and a few control tokens.

    Args:
        bos: whether it sets <s> before a text, as Llama's does.
        eos_behind: whether it sets </s> behind a text.
        alphabet: the characters that it knows.
    """
    words = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", *alphabet]
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
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )


def chatty(template: str | dict[str, str] = CHATML, *, bos: bool = False) -> PreTrainedTokenizerFast:
    """The same with a chat template, or several by name."""
    tokenizer = letters(bos=bos)
    tokenizer.chat_template = template
    return tokenizer
