"""One request to generate, from the engine's events to the bytes of its answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engines.emulator import text
from engines.emulator.connection import Connection
from engines.emulator.faces.face import Face
from engines.emulator.faces.words import Ask, Form, Problem, Site, Spoken, Times, Usage
from engines.emulator.jobs import Finished, FirstToken, Job


@dataclass(slots=True)
class _Choice:
    """What has been said of one choice."""

    seed: int
    job: Job
    around: tuple[bytes, bytes] | None = None
    tokens: int = 0
    cached_tokens: int = 0
    is_last_said: bool = False
    is_over: bool = False


@dataclass(slots=True, eq=False)
class Exchange:
    """Writes to its connection; knows nothing of time but what it is told."""

    ask: Ask
    site: Site
    face: Face
    connection: Connection
    jobs: tuple[Job, ...]
    """One for each choice; none where the request has a flaw."""
    arrived_s: float
    first_s: float | None = None
    last_s: float = 0.0
    queued_s: float = 0.0
    has_begun: bool = False
    is_over: bool = False
    _choices: dict[str, _Choice] = field(init=False)

    def __post_init__(self) -> None:
        """Prepare the choices."""
        pairs = zip(self.jobs, self.ask.expanded, strict=not self.ask.flaw)
        self._choices = {job.id: _Choice(prompt.seed, job) for job, prompt in pairs}

    def begin(self) -> None:
        """Send a stream's head."""
        if self.ask.stream and not self.has_begun:
            self.has_begun = True
            headers = self.face.stream_headers(self.ask, self.site)
            self.connection.begin(headers, space=self.site.quirks.space_after_data)

    def saw_first(self, event: FirstToken) -> None:
        """Take note of the first token of a choice."""
        if self.first_s is None:
            self.first_s = event.at_s

    def saw_token(self, job_id: str, index: int, at_s: float) -> None:
        """Say one token."""
        choice = self._choices[job_id]
        choice.tokens = index + 1
        self.last_s = at_s
        if not self.ask.stream:
            return
        self.begin()
        number = list(self._choices).index(job_id) if len(self._choices) > 1 else 0
        if index == 0:
            self._say(self.face.opening(self.ask, number, self.site))
        word = text.word(choice.seed, index)
        if choice.tokens == choice.job.length:
            self._say_last(choice, number, word)
            return
        if choice.around is None or self._counts:
            choice.around = self.face.token(self.ask, number, self.site, choice.tokens)
        before, after = choice.around
        self.connection.event(b'%b"%b"%b' % (before, word.encode(), after))

    def finished(self, event: Finished, times: Times) -> None:
        """End a choice, and the answer with the last one."""
        choice = self._choices[event.job_id]
        choice.cached_tokens = event.cached_tokens
        choice.is_over = True
        if self.ask.stream and not choice.is_last_said:
            number = list(self._choices).index(event.job_id)
            self._say_last(choice, number, "")
        if not all(other.is_over for other in self._choices.values()):
            return
        self.is_over = True
        spoken = [
            self._spoken(other, whole=not self.ask.stream) for other in self._choices.values()
        ]
        if self.ask.stream:
            self._say(self.face.ending(self.ask, spoken, self.site))
            self.connection.end()
        else:
            self.connection.send(self.face.whole(self.ask, spoken, times, self.site))

    def refused(self, problem: Problem) -> None:
        """Say that the engine does not take the request, where and how its kind says it."""
        self.is_over = True
        if self.ask.stream and self.site.quirks.early_status:
            self._break_off(problem)
        else:
            self.connection.send(self.face.answer(problem))

    def failed(self, problem: Problem) -> None:
        """Say that the answer broke off."""
        self.is_over = True
        if self.has_begun or (self.ask.stream and self.site.quirks.early_status):
            self._break_off(problem)
        else:
            self.connection.send(self.face.answer(problem))

    @property
    def _counts(self) -> bool:
        """Events tell how many tokens there are, or number them."""
        return self.ask.usage is Usage.ALWAYS or self.ask.form is Form.NATIVE

    def _break_off(self, problem: Problem) -> None:
        self.begin()
        self._say(self.face.event(problem, self.ask))
        self.connection.end()

    def _say_last(self, choice: _Choice, number: int, word: str) -> None:
        choice.is_last_said = True
        spoken = self._spoken(choice, whole=True)
        self._say(self.face.last(self.ask, number, word, spoken, self.site))

    def _spoken(self, choice: _Choice, *, whole: bool) -> Spoken:
        job = choice.job
        bounded = job.max_tokens is not None and choice.tokens >= job.max_tokens
        reason = "stop" if choice.tokens >= job.length and not bounded else "length"
        said = text.answer(choice.seed, choice.tokens) if whole else ""
        return Spoken(said, choice.tokens, reason, choice.cached_tokens)

    def _say(self, events: Sequence[bytes]) -> None:
        for event in events:
            self.connection.event(event)
