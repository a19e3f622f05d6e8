# SPDX-License-Identifier: Apache-2.0
"""octet.LLM: loading, generating, streaming, logits, memory, stopping."""
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import numpy
import pytest

import octet

PROMPT = "It was on a dreary night"


def test_greedy_generation_is_repeatable_and_text_is_the_decoded_ids(llm):
    first = llm.generate(PROMPT, max_tokens=16, temperature=0)
    second = llm.generate(PROMPT, max_tokens=16, temperature=0)
    assert first.ids == second.ids and first.text == second.text
    assert len(first.ids) == 16 and first.finish_reason == "length"
    assert first.prompt_ids == llm.encode(PROMPT)
    assert llm.decode(first.prompt_ids + first.ids).endswith(first.text)
    assert first.prefill_seconds > 0 and first.decode_seconds > 0


def test_many_prompts_give_a_list_equal_to_single_calls(llm):
    prompts = [PROMPT, llm.encode("The sea"), "A"]
    answers = llm.generate(prompts, max_tokens=6, temperature=0)
    assert [a.ids for a in answers] == [llm.generate(p, max_tokens=6, temperature=0).ids for p in prompts]


def test_same_seed_same_text_and_another_seed_another(llm):
    texts = [llm.generate(PROMPT, max_tokens=24, temperature=1.0, seed=seed).text for seed in (5, 5, 6)]
    assert texts[0] == texts[1] != texts[2]


def test_numpy_ids_are_a_prompt(llm):
    ids = llm.encode(PROMPT)
    given = numpy.array(ids, dtype=numpy.int64)
    assert llm.generate(given, max_tokens=3, temperature=0).prompt_ids == ids


def test_stop_text_ends_the_answer_and_is_no_part_of_it(llm):
    whole = llm.generate(PROMPT, max_tokens=24, temperature=0).text
    stop = whole[10:13]
    cut = llm.generate(PROMPT, max_tokens=24, temperature=0, stop=stop)
    assert cut.text == whole[:whole.index(stop)] and cut.finish_reason == "stop"
    assert llm.generate(PROMPT, max_tokens=24, temperature=0, stop=[stop]).text == cut.text


def test_stop_token_ids_end_the_answer(llm):
    ids = llm.generate(PROMPT, max_tokens=8, temperature=0).ids
    answer = llm.generate(PROMPT, max_tokens=8, temperature=0, stop_token_ids=[ids[2]])
    assert len(answer.ids) <= 3 and answer.finish_reason == "stop"


def test_stream_gives_the_same_text_in_pieces(llm):
    pieces = list(llm.stream(PROMPT, max_tokens=16, temperature=0))
    assert len(pieces) > 1
    assert "".join(pieces) == llm.generate(PROMPT, max_tokens=16, temperature=0).text


def test_stream_of_many_prompts_names_the_prompt(llm):
    texts = ["", ""]
    for index, piece in llm.stream(["A", "The sea"], max_tokens=6, temperature=0):
        texts[index] += piece
    assert texts == [a.text for a in llm.generate(["A", "The sea"], max_tokens=6, temperature=0)]


def test_closing_a_stream_stops_it_and_frees_the_model(llm):
    stream = llm.stream(PROMPT, max_tokens=200)
    next(stream)
    with pytest.raises(RuntimeError, match="stream of this LLM is open"):
        llm.generate(PROMPT)
    stream.close()
    assert llm.generate(PROMPT, max_tokens=2).ids


def test_an_error_of_a_stream_reaches_its_reader(llm):
    with pytest.raises(ValueError, match="tokens"):
        list(llm.stream([1] * (llm.max_model_len + 1)))
    assert llm.generate(PROMPT, max_tokens=2).ids


def test_logits_are_those_the_greedy_choice_is_made_from(llm):
    answer = llm.generate(PROMPT, max_tokens=1, temperature=0)
    logits = llm.logits(PROMPT)
    assert logits.shape == (len(answer.prompt_ids), llm.vocab_size) and logits.dtype == numpy.float32
    assert int(logits[-1].argmax()) == answer.ids[0]
    assert numpy.array_equal(llm.logits(answer.prompt_ids), logits)


def test_logits_outlive_their_model(demo):
    other = octet.LLM(demo, max_model_len=64)
    logits = other.logits([1, 2, 3])
    copy = logits.copy()
    del other
    assert numpy.array_equal(logits, copy)


def test_memory_counts_what_the_options_change(demo, llm):
    plain = octet.LLM(demo, max_model_len=256, quantization="none")
    assert llm.memory()["weights_bytes"] < plain.memory()["weights_bytes"]
    small = octet.LLM(demo, max_model_len=256, kv_cache_dtype="fp8")
    assert small.memory()["kv_cache_bytes"] < llm.memory()["kv_cache_bytes"]
    assert set(llm.memory()) == {"weights_bytes", "kv_cache_bytes", "peak_bytes", "load_peak_bytes",
                                 "planned_load_peak_bytes", "process_peak_rss_bytes"}


def test_page_cache_chooses_how_files_are_read(demo, llm):
    kept = octet.LLM(demo, max_model_len=64, page_cache="keep")  # nothing waits beside the workers
    assert kept.memory()["load_peak_bytes"] < llm.memory()["load_peak_bytes"]
    assert numpy.array_equal(kept.logits([1, 2, 3]), octet.LLM(demo, page_cache="bypass").logits([1, 2, 3]))
    with pytest.raises(ValueError, match="page_cache: expected one of auto, keep, bypass, found 'no'"):
        octet.LLM(demo, page_cache="no")


@pytest.mark.parametrize("options", [
    {"quantization": "fp8_per_tensor"}, {"quantization": "fp8_per_block"}, {"fp8_format": "e5m2"}, {"raw_cast": True},
    {"fp8_lm_head": True}, {"fp8_embedding": True}, {"ignore": ["re:.*layers\\.0\\..*"]},
    {"numerics": "compressed-tensors"}, {"activation_scheme": "dynamic"}, {"dtype": "float32"},
    {"load_format": "dummy"}], ids=str)
def test_each_option_reaches_the_library(demo, llm, options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = octet.LLM(demo, max_model_len=64, **options)
    assert not numpy.array_equal(other.logits([1, 2, 3]), llm.logits([1, 2, 3]))


def has_tiles(demo):
    try:
        return octet.LLM(demo, max_model_len=64, isa="amx_bf16") is not None
    except ValueError as error:
        assert "lacks amx_bf16" in str(error)
        return False


def test_machine_options_change_no_logits_beyond_rounding(demo, llm):
    # Tiles sum in an order of their own: see the test after this one.
    isa = {"isa": "avx512_bf16"} if has_tiles(demo) else {}
    expected = octet.LLM(demo, max_model_len=64, **isa).logits([1, 2, 3])
    for options in ({"threads": 1}, {"isa": "portable"}, {"max_num_seqs": 3}, {"kv_cache_memory": "4MiB"}):
        other = octet.LLM(demo, max_model_len=64, **{**isa, **options})
        assert numpy.allclose(other.logits([1, 2, 3]), expected, rtol=1e-3, atol=1e-3), options
    for options in ({"threads": 1}, {"max_num_seqs": 3}, {"kv_cache_memory": "4MiB"}):
        other = octet.LLM(demo, max_model_len=64, **options)
        assert numpy.allclose(other.logits([1, 2, 3]), llm.logits([1, 2, 3]), rtol=1e-3, atol=1e-3), options


def test_tiles_change_logits_no_more_than_rounding_activations_to_bfloat16(demo):
    if not has_tiles(demo):
        pytest.skip("this machine has no AMX")
    logits = {options: octet.LLM(demo, max_model_len=64, isa=options[0], dtype=options[1]).logits([1, 2, 3])
              for options in itertools.product(("amx_bf16", "portable"), ("bfloat16", "float32"))}
    # Sums in another order round some activations to their other neighbour.
    rounding = numpy.abs(logits["portable", "bfloat16"] - logits["portable", "float32"]).max()
    assert numpy.abs(logits["amx_bf16", "bfloat16"] - logits["portable", "bfloat16"]).max() <= rounding
    assert numpy.allclose(logits["amx_bf16", "float32"], logits["portable", "float32"], rtol=1e-3, atol=1e-3)


def test_load_report_names_every_tensor(llm):
    report = llm.load_report()
    assert report and any("q_proj" in str(value) for value in report.values())


def test_progress_is_called_and_false_stops_the_load(demo):
    seen = []
    octet.LLM(demo, max_model_len=64, progress=seen.append)
    assert seen and seen[-1].bytes_total > 0 and seen[-1].planned_peak_bytes > 0
    with pytest.raises(octet.Interrupted):
        octet.LLM(demo, max_model_len=64, progress=lambda progress: False)


def test_an_exception_of_a_callback_comes_through(demo):
    def fail(progress):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        octet.LLM(demo, max_model_len=64, progress=fail)


def test_warnings_go_to_the_callback_or_to_warnings(demo):
    said = []
    octet.LLM(demo, max_model_len=64, ignore=["nothing.matches"], warn=said.append)
    assert any("nothing.matches" in text for text in said)
    with pytest.warns(UserWarning, match="nothing.matches"):
        octet.LLM(demo, max_model_len=64, ignore=["nothing.matches"])


@pytest.mark.parametrize("options, message", [
    ({"quantization": "int8"}, "quantization: expected one of none, fp8"), ({"dtype": "float8"}, "dtype: expected"),
    ({"threads": 0}, "threads: expected 1 to 1024"), ({"max_num_seqs": 0}, "max_num_seqs: expected 1 to"),
    ({"device": "tpu"}, "unknown device"), ({"kv_cache_memory": "many"}, "kv_cache_memory: expected a size"),
    ({"max_model_len": 10**8}, "max-model-len"), ({"raw_cast": True, "quantization": "fp8_per_block"}, "raw")])
def test_bad_options_are_value_errors_with_their_name(demo, options, message):
    with pytest.raises(ValueError, match=message):
        octet.LLM(demo, **options)


@pytest.mark.parametrize("options, message", [
    ({"threads": "2"}, "threads: expected an integer"), ({"raw_cast": 1}, "raw_cast: expected a bool"),
    ({"ignore": "lm_head"}, "ignore: expected a list"), ({"device": 3}, "device: expected a str"),
    ({"progress": 3}, "progress: expected a function"), ({"max_model_len": True}, "expected an integer")])
def test_options_of_a_wrong_type_are_type_errors(demo, options, message):
    with pytest.raises(TypeError, match=message):
        octet.LLM(demo, **options)


def test_every_error_of_the_library_is_an_octet_error_and_a_builtin_one():
    for kind, builtin in ((octet.FormatError, ValueError), (octet.ConfigError, ValueError),
                          (octet.ArgumentError, ValueError), (octet.DeviceError, RuntimeError),
                          (octet.Interrupted, RuntimeError), (octet.OutOfMemoryError, MemoryError),
                          (octet.OutOfMemoryError, octet.DeviceError)):
        assert issubclass(kind, octet.Error) and issubclass(kind, builtin)


def test_folders_that_are_none_and_files_that_are_broken_are_value_errors(tmp_path, demo):
    with pytest.raises(octet.ConfigError, match="no such folder") as missing:
        octet.LLM(tmp_path / "absent")
    assert isinstance(missing.value, ValueError)
    for file in demo.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[:100] if file.suffix == ".safetensors"
                                           else file.read_bytes())
    with pytest.raises(octet.FormatError, match="safetensors") as broken:
        octet.LLM(tmp_path)
    assert isinstance(broken.value, ValueError)


@pytest.mark.parametrize("prompt, error, message", [
    ([], ValueError, "empty list"), ([[]], ValueError, "empty list"), (b"bytes", TypeError, "prompts: expected"),
    (7, TypeError, "prompts: expected"), ([-1], ValueError, "a token id: expected 0 to"),
    ([10**12], ValueError, "a token id: expected 0 to"), ([1.5], TypeError, "prompts: expected"),
    ([1, "a"], TypeError, "a token id: expected an integer")])
def test_bad_prompts_have_clear_errors(llm, prompt, error, message):
    with pytest.raises(error, match=message):
        llm.generate(prompt)


@pytest.mark.parametrize("sampling, error, message", [
    ({"max_tokens": 0}, ValueError, "max_tokens: expected 1"), ({"temperature": -1}, ValueError, "temperature: expected"),
    ({"temperature": float("nan")}, ValueError, "temperature: expected"), ({"top_p": 2}, ValueError, "top_p: expected"),
    ({"seed": -1}, ValueError, "seed: expected"), ({"max_token": 3}, TypeError, "unknown sampling options max_token"),
    ({"stop": 3}, TypeError, "not iterable"), ({"stop": [3]}, TypeError, "stop: expected a str"), ({"stop": [""]}, ValueError, "stop"),
    ({"ignore_eos": 1}, TypeError, "ignore_eos: expected a bool")])
def test_bad_sampling_options_have_clear_errors(llm, sampling, error, message):
    with pytest.raises(error, match=message):
        llm.generate(PROMPT, **sampling)


def test_chat_without_a_template_says_so_or_answers(llm):
    messages = [{"role": "user", "content": "Hello"}]
    try:
        assert llm.chat(messages, max_tokens=2).ids
    except octet.ConfigError as error:
        assert "chat template" in str(error)
    with pytest.raises(TypeError, match="messages: expected a list"):
        llm.chat("Hello")


def test_other_threads_run_while_it_generates(llm):
    counted = 0
    done = threading.Event()

    def count():
        nonlocal counted
        while not done.is_set():
            counted += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=count)
    thread.start()
    llm.generate(PROMPT, max_tokens=200, temperature=0, ignore_eos=True)
    done.set()
    thread.join()
    assert counted > 3


def test_calls_from_several_threads_wait_for_each_other(llm):
    expected = llm.generate(PROMPT, max_tokens=8, temperature=0).ids
    found = [None] * 4

    def call(index):
        found[index] = llm.generate(PROMPT, max_tokens=8, temperature=0).ids

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def run_and_interrupt(body):
    """A script that prints "ready", is sent SIGINT, and must end with KeyboardInterrupt soon."""
    script = textwrap.dedent(body)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                               # Tests that a shell started in the background ignore it, and so would their children.
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("call", ["llm.generate('A', max_tokens=450, ignore_eos=True)",
                                  "''.join(llm.stream('A', max_tokens=450, ignore_eos=True))"])
def test_control_c_stops_a_generation_and_leaves_the_model_usable(demo, call):
    code, out, err = run_and_interrupt(f"""
        import octet
        llm = octet.LLM({str(demo)!r}, threads=1)
        print("ready", flush=True)
        try:
            while True:
                {call}
        except KeyboardInterrupt:
            print(len(llm.generate("A", max_tokens=3, ignore_eos=True).ids))
    """)
    assert (code, out) == (0, "3\n"), err


def test_control_c_stops_a_load(demo):
    code, out, err = run_and_interrupt(f"""
        import octet
        print("ready", flush=True)
        try:
            while True:
                octet.LLM({str(demo)!r}, threads=1, max_model_len=64)
        except KeyboardInterrupt:
            print("stopped")
    """)
    assert (code, out) == (0, "stopped\n"), err


def test_it_does_not_need_torch():
    code = "import sys, octet; assert 'torch' not in sys.modules; sys.modules['torch'] = None\n" \
           "try:\n    import octet.torch\nexcept ImportError as e:\n    assert 'pip install torch' in str(e)\n" \
           "else:\n    raise SystemExit(1)"
    subprocess.run([sys.executable, "-c", code], check=True,
                   env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def test_stubs_name_what_the_extension_has():
    from octet import _octet

    stub = (pathlib.Path(octet.__file__).parent / "_octet.pyi").read_text(encoding="utf-8")
    missing = [name for name in dir(_octet) if not name.startswith("__") and f" {name}" not in stub]
    assert not missing
    for name in ("Fp8Runtime", "Llm", "LlmOptions", "SamplingParams", "Generation"):
        members = [member for member in vars(getattr(_octet, name)) if not member.startswith("_")]
        assert members and not [member for member in members if f" {member}" not in stub], name


def test_the_examples_of_the_docstring_run(demo):
    llm = octet.LLM(demo, max_model_len=128)
    assert "".join(llm.stream("Once upon a time", max_tokens=4))
    assert llm.generate("Once upon a time", max_tokens=4).text
