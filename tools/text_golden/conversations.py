# SPDX-License-Identifier: Apache-2.0
"""Requests that every template is rendered with: name -> the JSON that octet::ChatTemplate::render takes."""

USER = {"role": "user", "content": "What is 2 + 2?"}
SYSTEM = {"role": "system", "content": "You are terse."}
ANSWER = {"role": "assistant", "content": "Four."}
ODD = " \u2003 é 漢字 \U0001f600 <b>&'\"</b> \u200b\x1f {{ x }} {% if %} \\n \t"

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather's <state> & \"more\".",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city", "enum": ["Bern", "Genève", "Zürich"]},
                "days": {"type": ["integer", "null"], "default": None, "minimum": 1e-07, "maximum": 1e16},
            },
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "", "parameters": {"type": "object", "properties": {}}}}

ODD_ARGUMENTS = {
    "int": 1, "big": 100000000000000000000, "bigger": 10**45, "negative": -7, "float": 1.5, "tiny": 1e-7, "huge": 1e22,
    "edge": 0.0001, "whole": 2.0, "minus_zero": -0.0, "true": True, "null": None, "text": "it's \"q\" \n", "empty": {}, "none": [],
    "nested": {"b": [1, [2, {"a": None}]], "a": "z\u200b\xa0\x7f"}, "日本": "語", "1": 2,
}


def call(arguments, name="get_weather"):
    return {"role": "assistant", "content": None, "tool_calls": [
        {"id": "call00001", "type": "function", "function": {"name": name, "arguments": arguments}}]}


def conversations():
    tools = [WEATHER, CLOCK]
    result = {
        "user": {"messages": [USER]},
        "prompted": {"messages": [USER], "add_generation_prompt": True},
        "system": {"messages": [SYSTEM, USER], "add_generation_prompt": True},
        "turns": {"messages": [SYSTEM, USER, ANSWER, {"role": "user", "content": "  And\n\n3 + 3? \n"}], "add_generation_prompt": True},
        "answered": {"messages": [USER, ANSWER]},
        "system_later": {"messages": [USER, SYSTEM, USER]},
        "two_users": {"messages": [USER, USER]},
        "assistant_first": {"messages": [ANSWER, USER]},
        "unknown_role": {"messages": [{"role": "narrator", "content": "Meanwhile"}]},
        "odd": {"messages": [{"role": "user", "content": ODD}, {"role": "assistant", "content": ODD}]},
        "empty": {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "   "}]},
        "null_content": {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": None}]},
        "no_content": {"messages": [{"role": "user"}]},
        "number_content": {"messages": [{"role": "user", "content": 5}]},
        "list_content": {"messages": [{"role": "user", "content": [{"type": "text", "text": " a "}, {"type": "image"}, {"type": "text", "text": "b"}]}]},
        "string_parts": {"messages": [{"role": "user", "content": ["a", "b"]}]},
        "tools": {"messages": [SYSTEM, USER], "tools": tools, "add_generation_prompt": True},
        "no_tools": {"messages": [USER], "tools": []},
        "tool_turn": {"messages": [USER, call({"city": "Bern"}), {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": "sun & rain"}],
                      "tools": tools, "add_generation_prompt": True},
        "two_results": {"messages": [USER, call({"city": "Bern"}), {"role": "tool", "content": "sun"}, {"role": "tool", "content": "rain"}, ANSWER, USER],
                        "tools": tools, "add_generation_prompt": True},
        "odd_arguments": {"messages": [USER, call(ODD_ARGUMENTS), {"role": "tool", "content": {"t": 1e-7, "ok": True}}], "tools": tools},
        "text_arguments": {"messages": [USER, call('{"city": "Bern"}')], "tools": [CLOCK]},
        "bare_tool": {"messages": [USER], "tools": [{"name": "bare", "parameters": {}}]},
        "thinking": {"messages": [USER, {"role": "assistant", "content": "Four.", "reasoning_content": "\n2 and 2\n"}, USER], "add_generation_prompt": True},
        "thinking_inline": {"messages": [USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nFour."}, USER], "add_generation_prompt": True},
        "reasoning_alias": {"messages": [USER, {"role": "assistant", "content": "Four.", "reasoning": "r"}]},
        "no_thinking": {"messages": [USER], "add_generation_prompt": True, "enable_thinking": False},
        "thinking_on": {"messages": [USER], "add_generation_prompt": True, "enable_thinking": True},
        "documents": {"messages": [USER], "documents": [{"title": "T", "text": "one\ntwo\n"}, {"title": "U", "text": "x", "score": 0.5}]},
        "variables": {"messages": [USER], "bos_token": "<other>", "date_string": "26 Jul 2024", "count": 3, "ratio": 1e-5, "names": ["b", "a"]},
        "continued": {"messages": [USER, {"role": "assistant", "content": "Fo"}], "continue_final_message": True},
        "continued_blank": {"messages": [USER, {"role": "assistant", "content": "Fo  \n"}], "continue_final_message": True},
        "continued_parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b "}]}], "continue_final_message": True},
        "continued_absent": {"messages": [USER, {"role": "assistant", "refusal": "no"}], "continue_final_message": True},
        "continued_reasoning": {"messages": [USER, {"role": "assistant", "content": "", "thinking": "so"}], "continue_final_message": "reasoning_content"},
        "continued_prompted": {"messages": [ANSWER], "continue_final_message": True, "add_generation_prompt": True},
        "no_messages": {"messages": []},
    }
    return result
