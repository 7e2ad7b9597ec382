"""Presets: chat templates by name, with the tokens that each needs whole.

What the assistant writes ends with the token that ends its turn, so that a model learns to stop.
"""

from __future__ import annotations

from typing import NamedTuple


class ChatTemplate(NamedTuple):
    """A Jinja template of a conversation."""

    words: str
    special_tokens: tuple[str, ...]
    template: str


CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}
{%- generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}
{%- else %}
{{- message.content + '<|im_end|>' }}
{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

LLAMA3 = """\
{{- bos_token }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
{%- if message.role == 'assistant' %}
{%- generation %}{{ message.content | trim + '<|eot_id|>' }}{% endgeneration %}
{%- else %}
{{- message.content | trim + '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

PLAIN = """\
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- 'Assistant:' }}
{%- generation %}{{ ' ' + message.content + eos_token }}{% endgeneration %}
{{- '\\n' }}
{%- else %}
{{- message.role | capitalize + ': ' + message.content + '\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- 'Assistant:' }}
{%- endif %}
"""

CHAT_TEMPLATES: dict[str, ChatTemplate] = {
    "chatml": ChatTemplate("ChatML, as Qwen and many others use it: a turn stands between two special tokens",
                           ("<|im_start|>", "<|im_end|>"), CHATML),
    "llama3": ChatTemplate("Llama 3's: the role between header tokens, each turn with an end of its own (Dubey et al. "
                           "2024)", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), LLAMA3),
    "plain": ChatTemplate("Roles as plain words: needs no special token, so it fits any tokenizer", (), PLAIN),
}
