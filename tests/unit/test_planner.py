"""Single promises of a plan: honest about time, wishes and what it takes for granted."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import GoalNotCovered, Permanent
from shared.roadmap import Level, Roadmap, RoadmapRequest, Weekday
from tests.unit.plans import CATALOG, TODAY, hours_a_week, ids, make_plan, sixty
from worker_service.generators.offline import plan
from worker_service.generators.offline.calendar import Calendar
from worker_service.generators.offline.catalog import Mastery
from worker_service.generators.offline.explaining import explain
from worker_service.generators.offline.fitting import LARGER_PROJECTS, halves, scaled_hours, shares
from worker_service.generators.offline.matching import match_goal
from worker_service.generators.offline.planning import Selection, select
from worker_service.generators.offline.voices import voice_of

ALL_DAYS = tuple(Weekday)


def selected(goal: str, **details: object) -> Selection:
    request = RoadmapRequest.model_validate({"goal": goal, **details})
    return select(CATALOG, request, match_goal(CATALOG, goal), start=TODAY)


def closings(roadmap: Roadmap) -> list[str]:
    return [one.id for one in roadmap.concepts() if one.kind in ("project", "review")]


# --- hours and days ------------------------------------------------------------------------------


def test_hours_scale_with_the_level_in_half_hours() -> None:
    assert [scaled_hours(5, level) for level in Level] == [5.0, 4.5, 3.5]
    assert scaled_hours(0.5, Level.ADVANCED) == 0.5


@sixty
@given(st.lists(st.integers(1, 30).map(lambda n: n / 2), min_size=1), hours_a_week)
def test_weeks_are_filled_in_order(hours: list[float], per_week: float) -> None:
    calendar = Calendar(TODAY, per_week, ALL_DAYS)
    slots = [calendar.take(one) for one in hours]
    assert slots[0].week_from == 1
    assert slots[0].starts_on == TODAY
    for before, after in pairwise(slots):
        assert before.week_from <= before.week_to
        assert after.week_from in (before.week_to, before.week_to + 1)
        assert before.starts_on <= before.ends_on <= after.ends_on


def test_a_week_has_its_hours_on_its_study_days() -> None:
    # TODAY is a Monday
    calendar = Calendar(TODAY, 6, (Weekday.TUESDAY, Weekday.FRIDAY, Weekday.SUNDAY))
    days = [calendar.take(2).starts_on for _ in range(4)]
    assert days == [TODAY + timedelta(days=number) for number in (1, 4, 6, 8)]


def test_a_week_begins_with_the_day_of_the_start() -> None:
    thursday = TODAY + timedelta(days=3)
    calendar = Calendar(thursday, 2, (Weekday.WEDNESDAY, Weekday.FRIDAY))
    assert calendar.take(1).starts_on == thursday + timedelta(days=1)
    assert calendar.take(1).starts_on == thursday + timedelta(days=6)


def test_a_pause_moves_what_follows() -> None:
    calendar = Calendar(TODAY, 5, ALL_DAYS)
    calendar.take(4)
    calendar.pause(3)
    assert calendar.take(1).week_from == 2


@sixty
@given(st.integers(0, 400), st.lists(st.floats(0.5, 90), min_size=1, max_size=6))
def test_shares_are_whole_halves_that_add_up(pieces: int, weights: list[float]) -> None:
    parts = shares(pieces / 2, weights)
    assert sum(parts) == pieces / 2
    assert all(part == halves(part) >= 0 for part in parts)


def test_the_plan_starts_when_asked_or_today() -> None:
    assert make_plan("git").start_date == TODAY
    assert make_plan("git", start_date="2031-05-05").start_date == date(2031, 5, 5)


def test_a_start_at_the_end_of_the_calendar_is_refused() -> None:
    with pytest.raises(Permanent, match="after the year 9999") as refusal:
        make_plan("git", start_date="9999-12-30")
    assert refusal.value.code == "start_date_too_late"


def test_an_end_is_as_good_as_a_number_of_weeks() -> None:
    until = TODAY + timedelta(days=12 * 7 - 1)
    by_date, by_weeks = make_plan(until=until), make_plan(weeks=12)
    assert by_date == by_weeks
    assert by_date.fit.requested_weeks == 12


def test_an_end_within_a_week_is_refused() -> None:
    with pytest.raises(Permanent, match="less than a week after") as refusal:
        make_plan("git", until=TODAY + timedelta(days=3))
    assert refusal.value.code == "until_too_soon"


# --- what is left to learn -----------------------------------------------------------------------


def test_an_uncovered_goal_is_refused() -> None:
    with pytest.raises(GoalNotCovered):
        make_plan("Knit a sweater")


def test_when_everything_is_known_the_learner_is_told_what_to_do() -> None:
    with pytest.raises(Permanent, match="shorten known_topics") as refusal:
        make_plan("window functions", known_topics=["window functions"])
    assert refusal.value.code == "nothing_left_to_learn"


def test_an_excluded_prerequisite_of_the_core_stays_with_a_warning() -> None:
    roadmap = make_plan("FastAPI", exclude=["type hints"])
    assert "type-hints" in ids(roadmap)
    assert any(one.startswith("Type hints stays in the plan") for one in roadmap.warnings)


def test_an_excluded_extra_is_left_out_with_what_builds_on_it() -> None:
    roadmap = make_plan("Message queues", exclude=["isolation levels"])
    assert "isolation-and-locks" not in ids(roadmap)
    for one in roadmap.fit.dropped:
        assert one.concept_id not in ids(roadmap)


def test_without_in_the_goal_works_as_exclude() -> None:
    roadmap = make_plan("Python programming basics without linting")
    assert "linting" in ids(make_plan("Python programming basics"))
    assert "linting" not in ids(roadmap)


def test_unknown_topics_are_reported_and_ignored() -> None:
    roadmap = make_plan("git", known_topics=["knitting"], exclude=["Fortran"])
    assert ids(roadmap) == ids(make_plan("git"))
    assert any("“knitting” in known_topics" in one for one in roadmap.warnings)
    assert any("“Fortran” in exclude" in one for one in roadmap.warnings)


def test_what_is_known_carries_what_it_needs() -> None:
    roadmap = make_plan(known_topics=["decorators"])
    assert {"functions", "loops", "values-and-variables"}.isdisjoint(ids(roadmap))


def test_a_higher_level_says_what_it_takes_for_granted() -> None:
    warnings = make_plan("git", level="intermediate").warnings
    assert any("Assumed to be known" in one and "Terminal basics" in one for one in warnings)


def test_what_is_asked_for_by_name_is_planned_whatever_the_level_assumes() -> None:
    assert ids(make_plan("for loops", level="advanced")) == ["loops"]


# --- alternatives --------------------------------------------------------------------------------


def members(roadmap: Roadmap, group: str) -> set[str]:
    return set(CATALOG.alternatives[group].members) & set(ids(roadmap))


def test_one_of_several_databases_is_enough() -> None:
    assert members(make_plan("Backend developer with Python"), "relational-database") == {"psql"}


def test_what_the_learner_knows_takes_the_place_of_the_usual_choice() -> None:
    roadmap = make_plan("sql joins", known_topics=["sqlite"])
    assert members(roadmap, "relational-database") == set()


def test_an_excluded_member_gives_way_to_another() -> None:
    roadmap = make_plan("sql joins", exclude=["psql"])
    assert members(roadmap, "relational-database") == {"mysql-client"}
    assert roadmap.warnings == ()


def test_who_learns_javascript_needs_no_python_for_the_basics() -> None:
    assert members(make_plan("JavaScript basics"), "first-language") == {"javascript-setup"}
    assert members(make_plan("Python basics"), "first-language") == {"python-setup"}


# --- fitting the time ----------------------------------------------------------------------------


def test_a_tight_schedule_drops_what_is_not_core_and_gives_reasons() -> None:
    roomy, tight = make_plan(hours_per_week=8), make_plan(hours_per_week=8, weeks=34)
    dropped = {one.concept_id for one in tight.fit.dropped}
    assert tight.fit.feasible
    assert tight.weeks <= 34 < roomy.weeks
    assert dropped == set(ids(roomy)) - set(ids(tight))
    kinds = {concept.id: concept.kind for concept in roomy.concepts()}
    assert all(kinds[one] != "core" for one in dropped)
    assert all(one.reason for one in tight.fit.dropped)


def test_a_tighter_one_lowers_mastery_before_it_gives_up() -> None:
    roomy, tight = make_plan("Docker"), make_plan("Docker", hours_per_week=4, weeks=5)
    assert tight.fit.feasible
    assert tight.fit.lowered
    masteries = {one.id: one.mastery for one in tight.concepts()}
    for one in tight.fit.lowered:
        assert masteries[one.concept_id] == one.mastery
        is_target = one.concept_id in CATALOG.goals["docker"].targets.core
        assert one.mastery == (Mastery.WORKING if is_target else Mastery.ACQUAINTED)
    usual = {one.id: one.hours for one in roomy.concepts()}
    assert all(one.hours <= usual[one.id] for one in tight.concepts() if one.id in CATALOG.concepts)


def test_an_impossible_schedule_keeps_the_core_and_suggests_what_works() -> None:
    hurried = make_plan(hours_per_week=5, weeks=10)
    assert not hurried.fit.feasible
    assert hurried.weeks > 10
    suggestion = hurried.fit.suggestion or ""
    pace = float(suggestion.split("needs ")[1].split(" hours")[0])
    until = date.fromisoformat(suggestion.split("until ")[1].split()[0])
    assert make_plan(hours_per_week=pace, weeks=10).fit.feasible
    assert make_plan(hours_per_week=5, until=until).fit.feasible


def test_what_only_led_to_something_known_takes_nothing_along_when_it_falls() -> None:
    # web attacks are built upon, and need a database: but the learner knows them already
    known = ["web-attacks"]
    open_end, hurried = make_plan(known_topics=known), make_plan(known_topics=known, weeks=1)
    core = {one.id for one in open_end.concepts() if one.kind == "core"}
    assert core == {one.id for one in hurried.concepts() if one.kind == "core"}


def test_when_the_core_is_known_what_supports_it_is_not_dropped_to_nothing() -> None:
    core = CATALOG.goals["react"].targets.core
    roadmap = make_plan("React", known_topics=core, hours_per_week=1, weeks=1)
    assert ids(roadmap)
    assert not roadmap.fit.feasible


def test_a_plan_that_fits_only_by_overrunning_its_weeks_does_not_fit() -> None:
    least = make_plan("Docker", hours_per_week=1, weeks=1).total_hours
    over = make_plan("Docker", hours_per_week=least / 1.04, weeks=1)
    assert over.total_hours == least > over.fit.hours_per_week
    assert not over.fit.feasible
    assert make_plan("Docker", hours_per_week=least, weeks=1).fit.feasible


def test_the_highest_pace_is_suggested_where_it_is_just_enough() -> None:
    least = make_plan("React", hours_per_week=1, weeks=1).total_hours
    weeks = ceil(least / 80)
    assert least <= weeks * 80 < least * 1.15 * 1.1
    hurried = make_plan("React", hours_per_week=1, weeks=weeks)
    assert (hurried.fit.suggestion or "").startswith("The goal needs 80 hours a week, or until ")
    assert make_plan("React", hours_per_week=80, weeks=weeks).fit.feasible


def test_the_buffer_is_given_up_before_the_time_of_projects() -> None:
    least = make_plan("Docker", hours_per_week=1, weeks=1).total_hours
    for factor in (1.05, 1.1, 1.15):
        fitted = selected("Docker", hours_per_week=least * factor / 2, weeks=2).fitted
        assert fitted.projects == halves(least * (factor - 1))
        assert fitted.buffer == 0


def test_nothing_is_lowered_that_takes_as_long_anyway() -> None:
    for concept in CATALOG.concepts.values():
        hurried = selected(concept.name, level="advanced", hours_per_week=1, weeks=1)
        for one, mastery in hurried.fitted.mastery.items():
            if one in hurried.fitted.lowered:
                hours = CATALOG.concepts[one].hours
                usual = scaled_hours(hours[hurried.aim.mastery(one) - 1], Level.ADVANCED)
                assert scaled_hours(hours[mastery - 1], Level.ADVANCED) < usual


def test_nothing_is_added_where_something_was_dropped_for_want_of_time() -> None:
    fitted = selected("Coding interview", hours_per_week=7, weeks=17).fitted
    assert fitted.dropped
    assert fitted.added == ()


def test_projects_grow_with_what_is_added() -> None:
    fitted = selected("Docker", hours_per_week=8, weeks=30).fitted
    assert fitted.added
    assert fitted.projects == halves(sum(fitted.hours.values()) * LARGER_PROJECTS)


def test_only_too_little_time_leaves_nothing_free() -> None:
    short = make_plan("SQLite", hours_per_week=1, weeks=1)
    roomy = make_plan("SQLite", hours_per_week=1, weeks=38)
    assert any("nothing is kept free" in one for one in short.warnings)
    assert roomy.fit.buffer_hours == 0
    assert roomy.warnings == ()


def test_more_time_brings_reviews_and_extensions() -> None:
    usual, roomy = make_plan("Docker"), make_plan("Docker", hours_per_week=8, weeks=30)
    added = set(ids(roomy)) - set(ids(usual))
    assert added >= set(CATALOG.goals["docker"].targets.extensions) - set(ids(usual))
    assert {one.kind for one in roomy.concepts() if one.id in added} == {"optional"}
    assert any(one.startswith("review-") for one in closings(roomy))
    assert roomy.total_hours > usual.total_hours


def test_projects_take_their_share_of_an_open_plan() -> None:
    roadmap = make_plan()
    building = sum(one.hours for one in roadmap.concepts() if one.kind in ("project", "review"))
    assert building == halves((roadmap.total_hours - building) * 0.15)
    assert all(stage.milestone for stage in roadmap.stages)


def test_nothing_is_built_in_half_an_hour() -> None:
    roadmap = make_plan("The CSS box model", level="advanced")
    assert [one.kind for one in roadmap.concepts() if one.id in closings(roadmap)] == ["review"]


def test_reviews_of_like_stages_are_told_apart() -> None:
    known = ["Breaking problems down"]
    roadmap = make_plan("Accessibility basics", hours_per_week=5, weeks=89, known_topics=known)
    reviews = [one.name for one in roadmap.concepts() if one.kind == "review"]
    assert len(set(reviews)) == len(reviews) > 1


def test_a_tenth_is_kept_free() -> None:
    roadmap = make_plan()
    assert roadmap.fit.buffer_hours == halves(roadmap.total_hours * 0.1)


def test_one_hour_is_told_in_the_singular() -> None:
    roadmap = make_plan("git", hours_per_week=1, weeks=1)
    assert "1 week at 1 hour a week" in roadmap.fit.dropped[0].reason
    assert "at 1 hour a week" in (roadmap.fit.suggestion or "")


def test_a_concept_that_returns_to_a_tight_plan_brings_what_it_needs() -> None:
    for weeks in range(40, 105):
        order = ids(make_plan("FastAPI", hours_per_week=1, weeks=weeks))
        for one in order:
            for edge in CATALOG.concepts[one].requires:
                assert not edge.hard or edge.one_of or edge.id in order, (weeks, one)


# --- words ---------------------------------------------------------------------------------------


def test_the_summary_leaves_hours_and_weeks_to_their_own_fields() -> None:
    roadmap = make_plan("git", hours_per_week=3)
    assert roadmap.summary == CATALOG.goals["git"].blurb


def test_an_explanation_calls_nothing_unknown_that_was_given() -> None:
    request = RoadmapRequest(goal="git", known_topics=("joins",), until=date(3000, 1, 1))
    match = match_goal(CATALOG, request.goal)
    told = explain(request, match, select(CATALOG, request, match, start=TODAY))
    assert told.pruning == ("None of these concepts falls away.",)
    assert told.fit[0] == "The time is 253055 hours: 50611 weeks at 5 hours a week."


def test_a_name_is_heard_without_its_commas() -> None:
    (heard,) = match_goal(CATALOG, "OLTP, OLAP and columnar storage").heard
    assert heard.alias == "oltp olap and columnar storage"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_millions_of_hours_are_written_out(language: str) -> None:
    voice = voice_of(language)
    assert voice.hours(3342850).startswith("3342850 ")
    assert voice.hours(10 / 3).startswith("3.33 ")


def test_reasons_name_the_next_concept_or_the_goal() -> None:
    reasons = {one.id: one.why for one in make_plan("Learn Docker").concepts()}
    assert reasons["docker-compose"] == "A goal of this plan: Docker."
    assert "Needed for “" in reasons["terminal-basics"]
    names = {concept.name for concept in CATALOG.concepts.values()}
    assert reasons["terminal-basics"].split("“")[1].split("”")[0] in names


def test_a_plan_in_chinese_is_chinese_throughout() -> None:
    roadmap = make_plan("学习机器学习", language="zh", weeks=40)
    texts = [roadmap.title, roadmap.summary, *roadmap.warnings]
    for stage in roadmap.stages:
        texts += [stage.name, stage.description, stage.outcome]
        for module in stage.modules:
            texts += [module.description]
            for one in module.concepts:
                texts += [one.description, one.why, *one.outcomes, *one.practice, one.lesson or ""]
                texts += [question.question for question in one.quiz]
    for text in texts:
        assert any("\u4e00" <= char <= "\u9fff" for char in text), text
    assert not any("Needed for" in text or "You can" in text for text in texts)


def test_the_generator_and_its_data_are_named() -> None:
    made = make_plan("git").generated_by
    assert (made.name, made.version, made.catalog_version) == ("offline", "3", CATALOG.version)


def test_a_plan_with_its_content_is_still_a_valid_roadmap() -> None:
    roadmap = make_plan()
    assert Roadmap.model_validate_json(roadmap.model_dump_json()) == roadmap


def test_a_request_of_an_older_api_is_planned() -> None:
    request = RoadmapRequest.model_validate_json('{"goal": "git", "level": "beginner"}')
    assert plan(request, today=TODAY).study_days == RoadmapRequest(goal="git").study_days
