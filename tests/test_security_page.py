"""Each sentence of SECURITY.md that promises something has a test, which this table names."""

import re

import pytest
from conftest import ROOT

HOSTILE, FOREIGN, SECURITY = "test_hostile_checkpoints.py", "test_foreign_config.py", "test_security.py"
FILES, SECRETS, SCAN = "test_file_systems.py", "test_secrets.py", "test_pickle_scan.py"
ADVICE: list[str] = []  # of a sentence that tells a reader something of the world, or what to do

# The beginning of a sentence, and its tests as FILE::NAME.
TESTS = {
    "Trusted: the code of the project": ADVICE,
    "They decide which code runs": ADVICE,
    "A run directory from somebody else": ADVICE,
    "Not trusted: ": ADVICE,
    "You may load a stranger's": [f"{SECURITY}::test_a_file_that_brings_code_is_refused_everywhere"],
    "It cannot run code.": [f"{SECURITY}::test_a_file_that_brings_code_is_refused_everywhere"],
    "Every file is read by one function": [
        f"{SECURITY}::test_no_file_does_what_lets_a_stranger_in",
        f"{SECURITY}::test_a_file_that_brings_code_is_refused_everywhere",
    ],
    "What torch writes about the shards": ["test_shards.py::test_what_torch_wrote_of_the_shards_is_not_read"],
    "The config inside it chooses among": [f"{SECURITY}::test_a_checkpoints_config_imports_nothing"],
    "It cannot have a module imported": [
        f"{SECURITY}::test_a_checkpoints_config_imports_nothing",
        f"{SECURITY}::test_nor_does_a_bare_string_in_it",
    ],
    "Beside a run directory's": [f"{SECURITY}::test_of_a_run_directory_no_code_is_run_either"],
    "When `test.py` follows the config": [
        f"{FOREIGN}::test_it_starts_no_workers_and_compiles_nothing",
        f"{FOREIGN}::test_it_downloads_nothing_and_makes_no_folder",
        f"{FOREIGN}::test_its_model_is_compared_with_its_weights_before_memory_is_allocated",
        f"{FOREIGN}::test_its_numbers_and_lists_are_bounded",
    ],
    "`--set` can change that.": [f"{FOREIGN}::test_it_starts_no_workers_and_compiles_nothing"],
    "Names in it cannot steer a terminal": [
        f"{FOREIGN}::test_names_do_not_steer_the_terminal",
        f"{FOREIGN}::test_names_of_files_and_metrics_do_not_steer_the_terminal_on_stdout",
        f"{FOREIGN}::test_names_in_a_state_do_not_steer_the_terminal",
    ],
    "Nothing in it reads a file": ["test_extends.py::test_the_config_inside_a_checkpoint_reads_nothing"],
    '`"extends"` and `${env:NAME}` are followed': [
        "test_extends.py::test_the_config_inside_a_checkpoint_reads_nothing",
        "test_extends.py::test_the_config_of_a_run_or_checkpoint_reads_nothing",
        "test_resume.py::test_weights_are_read_when_a_run_starts_and_not_when_it_goes_on_or_is_scored",
    ],
    "It cannot grow": [f"{HOSTILE}::test_what_unpacks_to_more_than_it_is_is_refused"],
    "Before torch loads a file": [f"{SCAN}::test_small_files_are_refused_in_little_memory_and_time"],
    "Only regular files are opened": [f"{SCAN}::test_what_is_no_regular_file_is_refused_at_once"],
    "A file that was changed after": ["test_damage.py::test_every_flipped_bit_is_noticed"],
    "That check (a CRC-32)": ADVICE,
    "Names in a config become folders": [f"{SECURITY}::test_a_name_leads_nowhere_else"],
    "Links are replaced, not followed": [
        f"{SECURITY}::test_links_are_not_followed",
        f"{FILES}::test_a_link_in_a_run_directory_is_replaced_and_not_followed",
        f"{FILES}::test_a_link_at_a_temporary_name_is_not_followed",
    ],
    "Archives of data sets": [f"{SECURITY}::test_no_file_does_what_lets_a_stranger_in"],
    "A value under a key such as": [
        f"{SECRETS}::test_no_file_of_a_run_and_no_message_holds_them_and_a_resume_asks_for_them",
        f"{SECURITY}::test_a_secret_is_used_but_written_nowhere",
    ],
    "So do the user and password": [f"{SECRETS}::test_credentials_are_found_in_texts_of_many_forms"],
    "Keys are compared word by word:": [f"{SECRETS}::test_keys_are_compared_word_by_word"],
    "`max_tokens`, `pad_token`": [f"{SECRETS}::test_counts_and_switches_are_none"],
    "In a message, a secret of one": [f"{SECRETS}::test_a_short_one_does_not_spoil_a_message"],
    "To resume such a run": [f"{SECRETS}::test_no_file_of_a_run_and_no_message_holds_them_and_a_resume_asks_for_them"],
    "What your own code prints": ADVICE,
    "torch below 2.10": ["test_security_page.py::test_what_the_requirements_say"],
    "`weights_only=True` had holes": ADVICE,
    "CI looks the requirements up": ["test_security_page.py::test_what_the_requirements_say"],
    "Use the private security advisories": ADVICE,
}


def sentences():
    for block in re.split(r"\n\n|\n(?=- )", (ROOT / "SECURITY.md").read_text(encoding="utf-8")):
        if not block.startswith("#"):
            yield from re.split(r"(?<=[.:]) +(?=[A-Z`])", " ".join(block.removeprefix("- ").split()))


def test_the_table_has_each_sentence_once():
    found = [[start for start in TESTS if sentence.startswith(start)] for sentence in sentences()]
    assert sorted(found) == sorted([start] for start in TESTS)


@pytest.mark.parametrize("test", sorted({test for tests in TESTS.values() for test in tests}))
def test_the_tests_are_there(test):
    file, _, name = test.partition("::")
    assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_what_the_requirements_say():
    assert "\ntorch>=2.10," in "\n" + (ROOT / "requirements.txt").read_text(encoding="utf-8")
    steps = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "pip install pip-audit && pip-audit -r requirements.txt" in steps
