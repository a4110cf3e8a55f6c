"""Environments: what a policy meets in a rollout. Each is one coroutine `play(task, talk)`.

`task` is the prompt. `talk(text)` appends text that is not trained on, has the policy answer, and returns its turn. No
text is read as a control token; what opens and ends turns comes from `talk.markup`, as in
`talk(talk.markup("<|im_end|>\\n<|im_start|>user\\n"), result, talk.markup("<|im_end|>\\n<|im_start|>assistant\\n"))`.
`talk.grade()` asks the run's reward about what the policy has said. The environment returns the verdict of the
conversation, or its score on the run's scale (a score above 0 is a correct response). A further environment is a file
in this folder with such a coroutine, handed to `RolloutSession`.
"""

from collections.abc import Awaitable, Callable

from actors.rollouts.talk import Talk
from actors.types import Prompt
from rewards import Verdict

Play = Callable[[Prompt, Talk], Awaitable[Verdict | float]]
