"""Chinese (simplified) sentences of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from shared.roadmap import MOST_HOURS_A_WEEK

LEVELS = {"beginner": "初学", "intermediate": "中级", "advanced": "高级"}


class Chinese:
    """The same as English says it; reasons follow "因为", outcomes "你能够"."""

    # --- amounts and lists

    def weeks(self, number: int) -> str:
        return f"{number} 周"

    def hours(self, number: float) -> str:
        return f"{round(number, 2):.12g} 小时"

    def schedule(self, number_of_weeks: int, hours_per_week: float) -> str:
        return f"{self.weeks(number_of_weeks)}、每周 {self.hours(hours_per_week)}"

    def quoted(self, name: str) -> str:
        return f"“{name}”"

    def listed(self, names: Sequence[str]) -> str:
        return "、".join(names)

    def sentences(self, parts: Sequence[str]) -> str:
        return "".join(parts)

    # --- why something is in the plan, or is not

    def goal_of(self, title: str) -> str:
        return f"本计划的目标之一：{title}。"

    def rounds_off(self, title: str) -> str:
        return f"使本计划更完整：{title}。"

    def goes_beyond(self, title: str) -> str:
        return f"在“{title}”之外更进一步：你的时间允许。"

    def needed_for(self, names: Sequence[str], reason: str, end: str | None, *, hard: bool) -> str:
        first, *others = map(self.quoted, names)
        need = f"学习{first}之前必须掌握" if hard else f"有助于学习{first}"
        also = f"学习{'和'.join(others)}时也{'需要' if hard else '有帮助'}。" if others else ""
        return f"{need}，因为{reason}。{also}" + (f"最终通向{self.quoted(end)}。" if end else "")

    def left_out(self, time: str) -> str:
        return f"为了在 {time} 内完成而略去；达成目标并不需要它。"

    def only_for_left_out(self) -> str:
        return "只有因时间不足而略去的内容才需要它。"

    def needs_excluded(self, name: str) -> str:
        return f"它需要“{name}”，而后者已被排除。"

    def less_deep(self, time: str) -> str:
        return f"为了在 {time} 内完成。"

    # --- warnings, and what would help

    def unknown_topic(self, topic: str, field: str) -> str:
        return f"{field} 中的“{topic}”不对应目录里的任何内容，已忽略。"

    def kept_in_spite(self, name: str, needing: str) -> str:
        return f"“{name}”虽被排除，仍保留在计划中：“{needing}”需要它。"

    def does_not_cover(self, title: str, words: Sequence[str]) -> str:
        named = self.listed([self.quoted(word) for word in words])
        return f"本计划针对“{title}”，不涉及{named}。"

    def assumed(self, level: str, names: Sequence[str]) -> str:
        return (
            f"按{LEVELS[level]}水平，假定你已掌握：{self.listed(names)}。"
            "如需包含这些内容，请选择更低的水平。"
        )

    def no_buffer(self) -> str:
        return "时间非常紧，没有为耽误的日子留出任何余地。"

    def suggestion(self, pace: float | None, until: date, hours_per_week: float) -> str:
        later = f"按每周 {self.hours(hours_per_week)}学到 {until}"
        if pace is None:
            most = self.hours(MOST_HOURS_A_WEEK)
            return f"要达成目标，需要{later}；每周 {most}以内的任何进度都不够。"
        return f"要达成目标，需要每周 {self.hours(pace)}，或者{later}。"

    def nothing_left(self, title: str, *, all_known: bool, lower_level: bool) -> str:
        cause = "你已掌握的内容" if all_known else "你的水平、已掌握和排除的内容"
        advice = "减少 known_topics 或 exclude，或者换一个更进一步的目标"
        if lower_level:
            advice = f"选择更低的水平、{advice}"
        return f"除去{cause}之后，“{title}”已没有要学的了：请{advice}。"

    def too_soon(self, until: date, start: date) -> str:
        return f"{until} 距计划开始的 {start} 不到一周；请选择更晚的日期。"

    # --- how the plan came about

    def heard(self, words: str, name: str, share: float) -> str:
        return f"{self.quoted(words)}对应{self.quoted(name)}，占所说内容的 {share:.0%}。"

    def not_heard(self, words: Sequence[str]) -> str:
        return f"未能理解、但分量很小而略过：{self.listed(words)}。"

    def not_wanted(self, words: Sequence[str]) -> str:
        return f"理解为不想学：{self.listed(words)}。"

    def targets(self, core: int, supporting: int, extensions: int) -> str:
        return f"核心目标 {core} 个，辅助目标 {supporting} 个，时间富余时再提供 {extensions} 个。"

    def closed(self, total: int, hours: float) -> str:
        return (
            f"连同它们所需的一切和值得顺带学习的内容，共 {total} 个知识点："
            f"对完全没有基础的人是 {self.hours(hours)}。"
        )

    def one_of(self, group: str, chosen: str, others: Sequence[str]) -> str:
        instead = self.listed([self.quoted(one) for one in others])
        return f"{group}：选用{self.quoted(chosen)}（也可以用{instead}）。"

    def level_is(self, level: str, factor: float, count: int) -> str:
        known = f"；假定其中 {count} 个知识点已掌握" if count else ""
        return f"{LEVELS[level]}水平：学时 × {factor:g}{known}。"

    def known_is(self, count: int, names: Sequence[str]) -> str:
        return f"已掌握的内容及其所蕴含的，共 {count} 个知识点：{self.listed(names)}。"

    def excluded_is(self, names: Sequence[str]) -> str:
        return f"已排除：{self.listed(names)}。"

    def nothing_pruned(self) -> str:
        return "这些知识点无一去掉。"

    def open_time(self) -> str:
        return "没有要求结束时间：全部保留。"

    def budget(self, hours: float, time: str) -> str:
        return f"可用时间共 {self.hours(hours)}：{time}。"

    def dropped(self, names: Sequence[str]) -> str:
        return f"按每小时价值从低到高略去：{self.listed(names)}。"

    def lowered(self, names: Sequence[str]) -> str:
        return f"比通常学得浅：{self.listed(names)}。"

    def added(self, names: Sequence[str]) -> str:
        return f"因时间富余而增加：{self.listed(names)}。"

    def spent(self, concepts: float, projects: float, reviews: float, buffer: float) -> str:
        return (
            f"知识点 {self.hours(concepts)}，项目 {self.hours(projects)}，"
            f"复习 {self.hours(reviews)}，留作余地 {self.hours(buffer)}。"
        )

    # --- stages, modules, projects, reviews

    def phases(self, count: int) -> Sequence[str]:
        return {
            1: ("要点",),
            2: ("基础", "应用"),
            3: ("基础", "核心技能", "应用"),
            4: ("基础", "核心技能", "应用", "深入"),
            5: ("基础", "构件", "核心技能", "应用", "深入"),
            6: ("基础", "构件", "核心技能", "应用", "深入", "精通"),
        }[count]

    def stage_name(self, phase: str, themes: str) -> str:
        return f"{phase}：{themes}"

    def pair(self, one: str, other: str) -> str:
        return (
            f"{one}、{other}" if "与" in one + other or "和" in one + other else f"{one}与{other}"
        )

    def told_apart(self, theme: str, main: str) -> str:
        return f"{theme}：{main}"

    def made_of(self, names: Sequence[str]) -> str:
        return f"{self.listed(names)}。"

    def able(self, outcome: str) -> str:
        return f"你能够{outcome}。"

    def project_name(self, title: str) -> str:
        return f"项目：{title}"

    def project_why(self, stage: str) -> str:
        return f"只有亲手做出东西，“{stage}”阶段学到的才真正属于你。"

    def project_done(self, criterion: str) -> str:
        return f"完成标准：{criterion}。"

    def review_name(self, stage: str) -> str:
        return f"复习“{stage}”"

    def review_description(self, names: Sequence[str]) -> str:
        return f"不看笔记，回顾{self.listed(names)}。"

    def review_why(self) -> str:
        return "隔一段时间还能回想起来的才记得住，只是重读一遍则不然。"

    def review_outcome(self) -> str:
        return "你能够不看笔记逐一讲解这些内容，并指出自己在哪里犹豫。"

    def review_practice(self) -> Sequence[str]:
        return ("不翻看前文，重新回答本阶段的测验题。", "把完成得最差的那个练习从零再做一遍。")

    # --- lessons

    def why_it_matters(self) -> str:
        return "为什么重要"

    def know_first(self) -> str:
        return "先要掌握"

    def to_learn(self) -> str:
        return "学什么"

    def practise(self) -> str:
        return "练习"

    def read_on(self) -> str:
        return "延伸阅读"

    def needed_for_in_lesson(self, name: str, reason: str, *, hard: bool) -> str:
        return f"{'必须用于' if hard else '有助于'}**{name}**：{reason}。"

    def part_of_goal(self, name: str, blurb: str) -> str:
        return f"属于目标**{name}**。{blurb}"

    def begin_here(self) -> str:
        return "无：可以从这里开始。"

    def known_first(self, name: str, others: Sequence[str], reason: str, *, hard: bool) -> str:
        instead = f"（或{self.listed(others)}）" if others else ""
        return f"**{name}**{instead}{'' if hard else '（有帮助）'}：{reason}。"

    def titled(self, outcome: str) -> str:
        return outcome

    def how_to_check(self, outcome: str) -> str:
        if any(word in outcome for word in ("解释", "说出", "说明", "讲", "描述")):
            return "如何检验：不看笔记，大声讲一遍；卡住的地方就是要重读的地方。"
        if any(word in outcome for word in ("选择", "判断", "决定", "预测", "识别", "指出")):
            return "如何检验：写下三个例子、你的答案及理由，然后再动手验证。"
        if any(word in outcome for word in ("设计", "画出", "建模", "拆分", "定义")):
            return "如何检验：请别人就结果的任何部分提问，你都说得出理由。"
        return "如何检验：从零做一遍，几天后不查资料再做一遍。"

    # --- quizzes made of the catalog

    def which_describes(self, name: str) -> str:
        return f"哪一句描述的是“{name}”？"

    def others_describe(self, names: Sequence[str]) -> str:
        return f"其余各句描述的是{self.all_of(names)}。"

    def which_comes_first(self, name: str) -> str:
        return f"学习“{name}”之前必须先学什么？"

    def comes_first_because(self, reason: str) -> str:
        return f"它要先学，因为{reason}。其余各项则不必。"

    def which_practises(self, name: str) -> str:
        return f"哪个练习针对“{name}”？"

    def others_practise(self, names: Sequence[str]) -> str:
        return f"其余练习针对的是{self.all_of(names)}。"

    def what_can_you_do(self, name: str) -> str:
        return f"学完“{name}”之后，你能做什么？"

    def others_need(self, names: Sequence[str]) -> str:
        return f"其余各项需要的是{self.all_of(names)}。"

    def ability(self, outcome: str) -> str:
        return f"{outcome}。"

    def all_of(self, names: Sequence[str]) -> str:
        quoted = [self.quoted(one) for one in names]
        return f"{'、'.join(quoted[:-1])}和{quoted[-1]}" if len(quoted) > 1 else quoted[0]
