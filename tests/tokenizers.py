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


# The same for tools: where each family shows the functions, how it writes calls, and how results come back.
TOOL_FORMS = {
    # Functions and how to call them in the system message; calls between tags that are ordinary tokens; the results of
    # one turn together, as a user's message.
    "hermes": (
        ("<|im_start|>", "<|im_end|>"),
        "{% if tools %}<|im_start|>system\n{{ messages[0].content ~ '\n\n' if messages[0].role == 'system' else '' }}"
        "Functions:\n<tools>{% for t in tools %}\n{{ t | tojson }}{% endfor %}\n</tools>\nCall one by <tool_call>\n"
        '{"name": ..., "arguments": ...}\n</tool_call><|im_end|>\n'
        "{% elif messages[0].role == 'system' %}<|im_start|>system\n{{ messages[0].content }}<|im_end|>\n{% endif %}"
        "{% for m in messages %}{% if m.role == 'tool' %}"
        "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}"
        "{{ '\n<tool_response>\n' ~ m.content }}\n</tool_response>"
        "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>\n{% endif %}"
        "{% elif m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% for c in m.tool_calls %}\n<tool_call>\n"
        '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>'
        "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ),
    # The same with calls that are no JSON.
    "qwen3_coder": (
        ("<|im_start|>", "<|im_end|>"),
        "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ 'user' if m.role == 'tool' else m.role }}\n{{ m.content }}"
        "{% for c in m.tool_calls %}<tool_call>\n<function={{ c.function.name }}>\n"
        "{% for name, value in c.function.arguments.items() %}<parameter={{ name }}>\n{{ value }}\n</parameter>\n"
        "{% endfor %}</function>\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ),
    # Functions in the first question, a call is the whole turn and calls its arguments parameters, one in a message;
    # results are JSON strings of ipython.
    "llama": (
        ("<|begin|>", "<|header|>", "<|end_header|>", "<|eot|>", "<|python_tag|>"),
        "<|begin|>{% for m in messages %}{% if m.tool_calls %}{% if m.tool_calls | length != 1 %}"
        "{{ raise_exception('one call at once') }}{% endif %}<|header|>assistant<|end_header|>\n\n"
        '{"name": "{{ m.tool_calls[0].function.name }}", "parameters": '
        "{{ m.tool_calls[0].function.arguments | tojson }}}<|eot|>"
        "{% elif m.role == 'tool' %}<|header|>ipython<|end_header|>\n\n{{ m.content | tojson }}<|eot|>"
        "{% else %}<|header|>{{ m.role }}<|end_header|>\n\n{% if tools and m.role == 'user' and loop.first %}"
        "Answer with a call of a function:\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}\n{% endif %}"
        "{{ m.content | trim }}<|eot|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|header|>assistant<|end_header|>\n\n{% endif %}",
    ),
    # Functions in front of the last question; control tokens around calls and results, which are told by ids of nine
    # characters; a turn has a text or calls.
    "mistral": (
        (
            "[INST]",
            "[/INST]",
            "[AVAILABLE_TOOLS]",
            "[/AVAILABLE_TOOLS]",
            "[TOOL_CALLS]",
            "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]",
        ),
        "{% set ns = namespace(last=0) %}"
        "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}<s>"
        "{% for m in messages %}{% if m.role == 'user' %}{% if tools and loop.index0 == ns.last %}"
        "[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}[INST] {{ m.content }}[/INST]"
        "{% elif m.tool_calls %}[TOOL_CALLS] [{% for c in m.tool_calls %}"
        "{% if c.id | length != 9 %}{{ raise_exception('an id has nine characters') }}{% endif %}"
        '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}, "id": "{{ c.id }}"}'
        "{{ '' if loop.last else ', ' }}{% endfor %}]</s>{% elif m.role == 'tool' %}"
        "{% if m.tool_call_id is not defined or m.tool_call_id | length != 9 %}"
        "{{ raise_exception('an id has nine characters') }}{% endif %}"
        '[TOOL_RESULTS] {"content": {{ m.content | tojson }}, "call_id": "{{ m.tool_call_id }}"}[/TOOL_RESULTS]'
        "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
    ),
}


def family(name: str, *, tools: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters with the control tokens and the chat template of a family of models, of those
    with tools or of those without."""
    control, template = (TOOL_FORMS if tools else FORMS)[name]
    tokenizer = letters(control=control)
    tokenizer.chat_template = template
    return tokenizer


def chatty(template: str | dict[str, str] = CHATML, *, bos: bool = False) -> PreTrainedTokenizerFast:
    """The same with a chat template, or several by name."""
    tokenizer = letters(bos=bos)
    tokenizer.chat_template = template
    return tokenizer
