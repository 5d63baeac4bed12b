"""The seams of LangChain and LangGraph."""

from __future__ import annotations

from .seams import Seam, all_of, equals, has, is_a, mentions, stands_in, takes

_PARENTS = ("run_id", "parent_run_id")

HOOK = Seam(
    package="langchain_core",
    place="langchain_core.tracers.context:register_configure_hook",
    shape=takes("context_var", "inheritable", "handle_class"),
    purpose="puts the handler into every run of the process",
    lost="calls of models are neither refused nor charged, but for those inside of budgeted(...)",
    cure="put budgeted(...) around models, or config={{'callbacks': [StepTrackHandler()]}}",
    is_gate=True,
)
STARTS_CHAT = Seam(
    package="langchain_core",
    place="langchain_core.callbacks.base:CallbackManagerMixin.on_chat_model_start",
    shape=takes("serialized", "messages", "tags", "metadata", *_PARENTS),
    purpose="is told of a chat model's call before it is sent, and refuses it",
    lost="calls of chat models are not refused, and perhaps not charged",
)
STARTS_COMPLETION = Seam(
    package="langchain_core",
    place="langchain_core.callbacks.base:CallbackManagerMixin.on_llm_start",
    shape=takes("serialized", "prompts", "tags", "metadata", *_PARENTS),
    purpose="is told of a completion model's call before it is sent, and refuses it",
    lost="calls of completion models are not refused, and perhaps not charged",
)
ANSWERS = Seam(
    package="langchain_core",
    place="langchain_core.callbacks.base:LLMManagerMixin.on_llm_end",
    shape=takes("response", *_PARENTS),
    purpose="is told of an answer, and charges it",
    lost="answers are charged by an estimate, when their step ends",
)
FAILS = Seam(
    package="langchain_core",
    place="langchain_core.callbacks.base:LLMManagerMixin.on_llm_error",
    shape=takes("error", *_PARENTS),
    purpose="is told of a call that has failed, and charges what it has cost",
    lost="calls that fail are charged by an estimate, when their step ends",
)
CHUNKS = Seam(
    package="langchain_core",
    place="langchain_core.callbacks.base:LLMManagerMixin.on_llm_new_token",
    shape=takes("token", "chunk", *_PARENTS),
    purpose="is told of each chunk of a stream, and cuts it at a limit",
    lost="streams are not cut at a limit",
)
CHAINS = Seam(
    package="langchain_core",
    place="langchain_core.callbacks.base:CallbackManagerMixin.on_chain_start",
    shape=takes("serialized", "inputs", "metadata", *_PARENTS),
    purpose="learns which runs are inside which",
    lost="steps that are named by a run's name, tags, metadata or graph node are not opened",
    cure="open them by step() in the code of the node",
)
TOOLS = Seam(
    package="langchain_core",
    place="langchain_core.callbacks.base:CallbackManagerMixin.on_tool_start",
    shape=takes("serialized", "input_str", "metadata", *_PARENTS),
    purpose="counts tools, and refuses those that a stage does not allow",
    lost="tools are not refused",
    cure="call check_tool() in tools that change the world",
)
RAISES = Seam(
    package="langchain_core",
    place="langchain_core.callbacks.manager:handle_event",
    shape=mentions("raise_error"),
    purpose="lets what our handler raises reach the caller",
    lost="refusals are logged, and the call is sent nevertheless",
)
INLINE = Seam(
    package="langchain_core",
    place="langchain_core.callbacks.manager:ahandle_event",
    shape=mentions("run_inline"),
    purpose="calls our handler in the caller's own task, where its steps are",
    lost="async calls may find no step",
)
STARTS_COMPLETIONS = Seam(
    package="langchain_core",
    place="langchain_core.callbacks.manager:AsyncCallbackManager.on_llm_start",
    shape=mentions("self", "handlers", "run_inline"),
    purpose="is the code that asks handlers of async completion models whether they are inline; its frame is"
    " looked at, so that other handlers are told as ever",
    lost="your own async handlers may not be told of async completion models",
)
STARTS_CHATS = Seam(
    package="langchain_core",
    place="langchain_core.callbacks.manager:AsyncCallbackManager.on_chat_model_start",
    shape=mentions("self", "handlers", "run_inline"),
    purpose="is the code that makes the coroutines which tell handlers of a call; its frame is looked at, so"
    " that none is left behind when one handler refuses",
    lost="Python warns of coroutines that were never awaited, when async calls are refused",
    cure="ignore the warnings: nothing is lost",
)
AWAITED = Seam(
    package="langchain_core",
    place="langchain_core.callbacks.manager:_ahandle_event_for_handler",
    shape=all_of(takes("handler", "event_name"), mentions("iscoroutinefunction", "getattr")),
    purpose="is the code that awaits handlers; its frame is looked at, so that it gets a coroutine function"
    " of our handler, and all others a plain one",
    lost="calls on an event loop that would fit once others settle are refused, and do not wait",
    cure="give models rate_limiter=steptrack_callbacks.langchain.admission, or put budgeted(...) around them",
)
MANAGER = Seam(
    package="langchain_core",
    place="langchain_core.callbacks:BaseCallbackManager",
    shape=has("handlers", "inheritable_handlers", "copy"),
    purpose="is given the handlers of budgeted(...) and of the middleware",
    lost="calls in budgeted(...) are seen only after install()",
)
NO_RETRY = Seam(
    package="langchain_core",
    place="langchain_core.exceptions:ModelError",
    shape=all_of(is_a(Exception), has("is_retryable")),
    purpose="is the kind of error that says of itself that it must not be retried",
    lost="LangChain's retries try refusals again; none of them is sent",
    cure="retry_if_exception_type=... in with_retry(), without StepTrackError",
)
MODEL_FRAMES = Seam(
    package="langchain_core",
    place="langchain_core.language_models.chat_models:BaseChatModel.invoke",
    shape=stands_in("/langchain_core/language_models/"),
    purpose="tells by its file which frames are a model's, so that what LiteLLM sends for it counts once",
    lost="a model that calls LiteLLM inside may be charged twice",
)
SENDS = Seam(
    package="langchain_core",
    place="langchain_core.language_models.chat_models:BaseChatModel.generate",
    shape=mentions("self", "kwargs", "on_chat_model_start", "_generate_with_cache"),
    purpose="is the code that starts a chat model's call and sends it; what it sends is in its frame, where"
    " the last call of a budget is given what is left",
    lost="in budgeted(...) and agents, the last call of a budget may pass it by all of its answer",
    cure="give the model a max_tokens",
)
SENDS_ASYNC = Seam(
    package="langchain_core",
    place="langchain_core.language_models.chat_models:BaseChatModel.agenerate",
    shape=mentions("self", "kwargs", "on_chat_model_start", "_agenerate_with_cache"),
    purpose="is the same for async calls",
    lost="the same for async calls",
    cure="give the model a max_tokens",
)
LIMITER = Seam(
    package="langchain_core",
    place="langchain_core.rate_limiters:BaseRateLimiter",
    shape=has("acquire", "aacquire"),
    purpose="is what a model asks right before it sends, and where calls on an event loop can wait",
    lost="rate_limiter=admission cannot be used",
    cure="put budgeted(...) around the model",
)
LIMITED_MODEL = Seam(
    package="langchain_core",
    place="langchain_core.language_models:BaseChatModel",
    shape=has("rate_limiter", "invoke"),
    purpose="is found in the frames above the handler, to see whether it has our limiter",
    lost="calls of models with rate_limiter=admission do not wait on an event loop",
    cure="put budgeted(...) around the model",
)
NAMES = Seam(
    package="langchain_core",
    place="langchain_core.language_models.chat_models:BaseChatModel._get_ls_params",
    shape=mentions("ls_provider", "ls_model_name", "ls_max_tokens"),
    purpose="puts the model's name, its provider and its longest answer into a run's metadata",
    lost="models are named by their parameters, and perhaps priced as their maker's",
    cure="name prices in install(prices=...) for models that have none",
)
AGENT_STATE = Seam(
    package="langchain",
    place="langchain.agents.middleware.types:PrivateStateAttr",
    purpose="keeps what was spent out of an agent's input and output",
    lost="StepBudgetMiddleware cannot be used",
)
AGENT_MIDDLEWARE = Seam(
    package="langchain",
    place="langchain.agents.middleware:AgentMiddleware",
    shape=has("before_agent", "after_agent", "wrap_model_call", "awrap_model_call", "wrap_tool_call"),
    purpose="is the class of an agent's middleware",
    lost="StepBudgetMiddleware cannot be used",
)
AGENT_ANSWER = Seam(
    package="langchain",
    place="langchain.agents.middleware.types:ExtendedModelResponse",
    shape=takes("model_response", "command"),
    purpose="saves what was spent beside a model's answer",
    lost="StepBudgetMiddleware cannot be used",
)
CHILD_CONFIG = Seam(
    package="langchain_core",
    place="langchain_core.runnables.config:var_child_runnable_config",
    shape=has("set", "reset"),
    purpose="lets what a middleware calls be seen without install()",
    lost="calls in an agent with StepBudgetMiddleware are seen only after install()",
    cure="call install()",
)
CHECKPOINTER = Seam(
    package="langgraph",
    place="langgraph._internal._constants:CONFIG_KEY_CHECKPOINTER",
    shape=equals("__pregel_checkpointer"),
    purpose="tells whether a graph can pause for a person",
    lost="a step that escalates in a graph without a checkpointer pauses it for good",
    cure="give the graph a checkpointer",
)
SEND = Seam(
    package="langgraph",
    place="langgraph._internal._constants:CONFIG_KEY_SEND",
    shape=equals("__pregel_send"),
    purpose="saves with a node what a hook of another middleware has spent in it",
    lost="what such hooks spend is not in the checkpoint, if the very next node is paused and resumed in"
    " another process",
)
NODE_COMMAND = Seam(
    package="langgraph",
    place="langgraph.pregel._retry:run_with_retry",
    shape=mentions("ParentCommand", "graph"),
    purpose="takes a command that is raised in a node as the node's own word on how the graph goes on",
    lost="with error_boundary='continue', a hook of another middleware that meets the limit raises",
)
ENDS_NODE = Seam(
    package="langgraph",
    place="langgraph.errors:ParentCommand",
    shape=is_a(Exception),
    purpose="is how a node gives the graph a command by raising it",
    lost="StepBudgetMiddleware cannot be used",
)
PAUSE = Seam(
    package="langgraph",
    place="langgraph.errors:GraphInterrupt",
    shape=is_a(Exception),
    purpose="is what a graph is paused with, so that a pause is not taken for a failure",
    lost="StepBudgetMiddleware cannot be used",
)
INTERRUPT = Seam(
    package="langgraph",
    place="langgraph.types:interrupt",
    shape=takes("value"),
    purpose="pauses a graph until a person has answered",
    lost="steps of graphs cannot ask a person",
)
NODE_ERROR = Seam(
    package="langgraph",
    place="langgraph.errors:NodeError",
    shape=has("node", "error"),
    purpose="is what an error handler of a node is given",
    lost="budget_error_handler cannot be used",
)
UNTRACKED = Seam(
    package="langgraph",
    place="langgraph.channels.untracked_value:UntrackedValue",
    shape=takes("typ", "guard"),
    purpose="keeps an agent's running step in the graph's state, and out of checkpoints",
    lost="StepBudgetMiddleware cannot be used",
)

LANGCHAIN_CORE = (
    HOOK,
    STARTS_CHAT,
    STARTS_COMPLETION,
    ANSWERS,
    FAILS,
    CHUNKS,
    CHAINS,
    TOOLS,
    RAISES,
    INLINE,
    STARTS_COMPLETIONS,
    STARTS_CHATS,
    AWAITED,
    MANAGER,
    NO_RETRY,
    MODEL_FRAMES,
    SENDS,
    SENDS_ASYNC,
    LIMITER,
    LIMITED_MODEL,
    NAMES,
    CHILD_CONFIG,
)
AGENTS = (AGENT_STATE, AGENT_MIDDLEWARE, AGENT_ANSWER)
GRAPHS = (CHECKPOINTER, SEND, NODE_COMMAND, ENDS_NODE, PAUSE, INTERRUPT, NODE_ERROR, UNTRACKED)
SEAMS: tuple[Seam, ...] = (*LANGCHAIN_CORE, *AGENTS, *GRAPHS)
