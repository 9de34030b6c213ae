"""English sentences of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from shared.roadmap import MOST_HOURS_A_WEEK

KEEPS_CAPITAL = {
    *("Python", "Git", "PostgreSQL", "Docker", "FastAPI", "Django", "JavaScript", "TypeScript"),
    *("Node", "Node.js", "NoSQL", "React", "Vue", "Linux", "Kubernetes"),
}


class English:
    """Names are quoted here; reasons complete "because …", outcomes "You can …"."""

    # --- amounts and lists

    def weeks(self, number: int) -> str:
        return "1 week" if number == 1 else f"{number} weeks"

    def hours(self, number: float) -> str:
        shown = f"{round(number, 2):.12g}"
        return f"{shown} hour" if shown == "1" else f"{shown} hours"

    def schedule(self, number_of_weeks: int, hours_per_week: float) -> str:
        """How long at which pace: "8 weeks at 1 hour a week"."""
        return f"{self.weeks(number_of_weeks)} at {self.hours(hours_per_week)} a week"

    def quoted(self, name: str) -> str:
        return f"“{name}”"

    def listed(self, names: Sequence[str]) -> str:
        return ", ".join(names)

    def sentences(self, parts: Sequence[str]) -> str:
        return " ".join(parts)

    # --- why something is in the plan, or is not

    def goal_of(self, title: str) -> str:
        return f"A goal of this plan: {title}."

    def rounds_off(self, title: str) -> str:
        return f"Rounds off this plan: {title}."

    def goes_beyond(self, title: str) -> str:
        return f"Goes further than {title}: your time allows it."

    def needed_for(self, names: Sequence[str], reason: str, end: str | None, *, hard: bool) -> str:
        """``names`` build on it, the first for ``reason``; ``end`` is the goal they lead to."""
        first, *others = map(self.quoted, names)
        need = f"{'Needed for' if hard else 'Helps with'} {first}, because {reason}."
        also = f" Also for {' and '.join(others)}." if others else ""
        return need + also + (f" It leads to {self.quoted(end)}." if end else "")

    def left_out(self, time: str) -> str:
        return f"To fit {time}; not needed to reach the goal."

    def only_for_left_out(self) -> str:
        return "Only needed for something that was left out to fit the time."

    def needs_excluded(self, name: str) -> str:
        return f"It needs {name}, which was excluded."

    def less_deep(self, time: str) -> str:
        return f"To fit {time}."

    # --- warnings, and what would help

    def unknown_topic(self, topic: str, field: str) -> str:
        return f"{self.quoted(topic)} in {field} names nothing in the catalog; it was ignored."

    def kept_in_spite(self, name: str, needing: str) -> str:
        return f"{name} stays in the plan although it was excluded: {needing} needs it."

    def does_not_cover(self, title: str, words: Sequence[str]) -> str:
        named = self.listed([self.quoted(word) for word in words])
        return f"This plan is made for {title}; it does not cover {named}."

    def assumed(self, level: str, names: Sequence[str]) -> str:
        return (
            f"Assumed to be known at level {level}: {self.listed(names)}. "
            "Choose a lower level to include it."
        )

    def no_buffer(self) -> str:
        return "The time is so short that nothing is kept free for a week that goes wrong."

    def suggestion(self, pace: float | None, until: date, hours_per_week: float) -> str:
        """What would make the plan feasible; ``pace`` is None if no pace would."""
        later = f"until {until} at {self.hours(hours_per_week)} a week"
        if pace is None:
            most = self.hours(MOST_HOURS_A_WEEK)
            return f"The goal needs time {later}; no pace up to {most} a week is enough."
        return f"The goal needs {self.hours(pace)} a week, or {later}."

    def nothing_left(self, title: str, *, all_known: bool, lower_level: bool) -> str:
        cause = "what you know already" if all_known else "your level, known topics and exclusions"
        advice = "shorten known_topics or exclude, or ask for a further goal"
        if lower_level:
            advice = f"choose a lower level, {advice}"
        return f"Nothing is left to learn for {title} after {cause}: {advice}."

    def too_soon(self, until: date, start: date) -> str:
        return f"{until} is less than a week after {start}, when the plan starts; ask for later."

    # --- how the plan came about

    def heard(self, words: str, name: str, share: float) -> str:
        return f"{self.quoted(words)} stands for {name}: {share:.0%} of what was said."

    def not_heard(self, words: Sequence[str]) -> str:
        return f"Not understood, and small enough to leave aside: {self.listed(words)}."

    def not_wanted(self, words: Sequence[str]) -> str:
        return f"Read as not wanted: {self.listed(words)}."

    def targets(self, core: int, supporting: int, extensions: int) -> str:
        return (
            f"{core} core targets, {supporting} supporting ones, and {extensions} that are "
            "offered if there is time left."
        )

    def closed(self, total: int, hours: float) -> str:
        return (
            f"With all they need, and what helps enough to come along, {total} concepts: "
            f"{self.hours(hours)} for somebody who knows nothing of it."
        )

    def one_of(self, group: str, chosen: str, others: Sequence[str]) -> str:
        return f"{group}: {chosen} (would do as well: {self.listed(others)})."

    def level_is(self, level: str, factor: float, count: int) -> str:
        known = f"; it takes {count} of these concepts for granted" if count else ""
        return f"Level {level}: hours × {factor:g}{known}."

    def known_is(self, count: int, names: Sequence[str]) -> str:
        return f"Known, with what that implies, {count} of these concepts: {self.listed(names)}."

    def excluded_is(self, names: Sequence[str]) -> str:
        return f"Excluded: {self.listed(names)}."

    def nothing_pruned(self) -> str:
        return "None of these concepts falls away."

    def open_time(self) -> str:
        return "No end was asked for: everything stays."

    def budget(self, hours: float, time: str) -> str:
        return f"The time is {self.hours(hours)}: {time}."

    def dropped(self, names: Sequence[str]) -> str:
        return f"Dropped, the least value per hour first: {self.listed(names)}."

    def lowered(self, names: Sequence[str]) -> str:
        return f"Less deep than usual: {self.listed(names)}."

    def added(self, names: Sequence[str]) -> str:
        return f"Added, because there is time: {self.listed(names)}."

    def spent(self, concepts: float, projects: float, reviews: float, buffer: float) -> str:
        return (
            f"{self.hours(concepts)} for concepts, {self.hours(projects)} for projects, "
            f"{self.hours(reviews)} for reviews, {self.hours(buffer)} kept free."
        )

    # --- stages, modules, projects, reviews

    def phases(self, count: int) -> Sequence[str]:
        return {
            1: ("Essentials",),
            2: ("Foundations", "Application"),
            3: ("Foundations", "Core skills", "Application"),
            4: ("Foundations", "Core skills", "Application", "In depth"),
            5: ("Foundations", "Building blocks", "Core skills", "Application", "In depth"),
            6: (
                *("Foundations", "Building blocks", "Core skills"),
                *("Application", "In depth", "Mastery"),
            ),
        }[count]

    def stage_name(self, phase: str, themes: str) -> str:
        return f"{phase}: {themes}"

    def pair(self, one: str, other: str) -> str:
        """Two names as one: what joins them must not be taken for a part of either."""
        both = one + other
        link = "; " if ", " in both else ", " if " and " in both else " and "
        return one + link + _inside(other)

    def told_apart(self, theme: str, main: str) -> str:
        return f"{theme}: {main}"

    def made_of(self, names: Sequence[str]) -> str:
        return f"{self.listed(names)}."

    def able(self, outcome: str) -> str:
        return f"You can {outcome}."

    def project_name(self, title: str) -> str:
        return f"Project: {title}"

    def project_why(self, stage: str) -> str:
        return f"What you learned in “{stage}” holds once you have built something with it."

    def project_done(self, criterion: str) -> str:
        return f"Done when {criterion}."

    def review_name(self, stage: str) -> str:
        return f"Review of “{stage}”"

    def review_description(self, names: Sequence[str]) -> str:
        return f"Going back, without notes, over {self.listed(names)}."

    def review_why(self) -> str:
        return "What is recalled after a while stays; what is only read again does not."

    def review_outcome(self) -> str:
        return "You can explain each of these without notes, and say where you hesitated."

    def review_practice(self) -> Sequence[str]:
        return (
            "Answer the quizzes of this stage again without looking back.",
            "Redo the exercise that went worst from an empty start.",
        )

    # --- lessons

    def why_it_matters(self) -> str:
        return "Why it matters"

    def know_first(self) -> str:
        return "Know this first"

    def to_learn(self) -> str:
        return "What to learn"

    def practise(self) -> str:
        return "Practise"

    def read_on(self) -> str:
        return "Read on"

    def needed_for_in_lesson(self, name: str, reason: str, *, hard: bool) -> str:
        need = "Needed for" if hard else "Helps with"
        return f"{need} **{name}**: {reason}."

    def part_of_goal(self, name: str, blurb: str) -> str:
        return f"Part of the goal **{name}**. {blurb}"

    def begin_here(self) -> str:
        return "Nothing: you can begin here."

    def known_first(self, name: str, others: Sequence[str], reason: str, *, hard: bool) -> str:
        """Any of ``others`` will do as well."""
        instead = f" (or {' or '.join(others)})" if others else ""
        return f"**{name}**{instead}{'' if hard else ' (helps)'}: {reason}."

    def titled(self, outcome: str) -> str:
        return f"{outcome[0].upper()}{outcome[1:]}"

    def how_to_check(self, outcome: str) -> str:
        """How a learner finds out alone whether they can do it, by the kind of ability it is."""
        return f"How to check: {_check(outcome)}"

    # --- quizzes made of the catalog

    def which_describes(self, name: str) -> str:
        return f"Which sentence describes “{name}”?"

    def others_describe(self, names: Sequence[str]) -> str:
        return f"The others describe {self.all_of(names)}."

    def which_comes_first(self, name: str) -> str:
        return f"What has to be learned before “{name}”?"

    def comes_first_because(self, reason: str) -> str:
        return f"It comes first because {reason}. None of the others has to."

    def which_practises(self, name: str) -> str:
        return f"Which exercise practises “{name}”?"

    def others_practise(self, names: Sequence[str]) -> str:
        return f"The others practise {self.all_of(names)}."

    def what_can_you_do(self, name: str) -> str:
        return f"What can you do once you have learned “{name}”?"

    def others_need(self, names: Sequence[str]) -> str:
        return f"For the others you need {self.all_of(names)}."

    def ability(self, outcome: str) -> str:
        return f"{self.titled(outcome)}."

    def all_of(self, names: Sequence[str]) -> str:
        quoted = [self.quoted(one) for one in names]
        return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _inside(name: str) -> str:
    """A name in the middle of a phrase: "Command line" → "command line", "SQL" stays."""
    first = name.split()[0].strip(",")
    return name if first in KEEPS_CAPITAL or first.isupper() else name[0].lower() + name[1:]


def _check(outcome: str) -> str:
    verb = outcome.split()[0].strip(",")
    if verb in FINDING:
        return "take an example that you have not seen before, and confirm the result another way."
    if any(word in outcome for word in PROMISES):
        return "do it once, then try in earnest to find a case in which it goes wrong."
    if verb in EXPLAINING:
        return "explain it aloud without notes. Where you get stuck is what to read again."
    if verb in JUDGING:
        return "write down three cases with your answer and its reason, and only then try them."
    if verb in SHAPING:
        return "let somebody ask about any part of the result: you have a reason for each."
    return "do it from an empty start, and again a few days later without looking anything up."


FINDING = {
    *("answer", "compute", "count", "extract", "find", "follow"),
    *("measure", "query", "read", "report", "summarise"),
}
PROMISES = (" without ", " so that ", " even ", " impossible ")
EXPLAINING = {"describe", "explain", "name"}
JUDGING = {"choose", "decide", "pick", "predict", "say", "spot", "state", "tell"}
SHAPING = {"define", "design", "draw", "map", "model", "sketch", "split"}
"""Words that tell the kind of ability, most of them first words; the rest is making and doing."""
