"""A session with the server through an official SDK: the same few functions whichever generation it is.

The `current` SDK speaks the stateless protocol, `legacy` is the same SDK made to use the handshake, and `handshake` is the
generation before. Results are plain dictionaries, spelled as on the wire.
"""

import json
import os
import subprocess
from contextlib import asynccontextmanager, suppress

import anyio
import jsonschema
import mcp
from mcp.client.stdio import StdioServerParameters, stdio_client

# How long a fact may take to come true; nothing is asserted about it.
PATIENCE = 25.0


class Wrong(AssertionError):
    """Something is not as it should be."""


def same(actual, expected, about=""):
    if actual != expected:
        raise Wrong(f"{about or 'value'}\n  is:        {actual!r}\n  should be: {expected!r}")


def holds(condition, about):
    if not condition:
        raise Wrong(str(about))


def contains(text, *parts):
    for part in parts:
        if part not in text:
            raise Wrong(f"{part!r} is not in\n{text}")


async def until(what, look):
    """What `look` finds, as soon as it is true."""
    seen = None
    with anyio.move_on_after(PATIENCE):
        while True:
            seen = await look()
            if seen:
                return seen
            await anyio.sleep(0.005)
    raise Wrong(f"it never came true that {what}; last seen: {seen!r}")


class Refused(Exception):
    """The protocol's own error, not a result of a tool."""

    def __init__(self, error):
        super().__init__(error.message)
        self.code, self.message, self.data = error.code, error.message, error.data


class Session:
    """What all of them can do. `structured` says whether the server declares schemas."""

    def __init__(self, client, structured, schemas):
        self.client = client
        self.structured = structured
        self.schemas = schemas
        self.stray = []

    def plain(self, model):
        return model.model_dump(by_alias=True, mode="json", exclude_none=True)

    async def asked(self, request):
        try:
            return self.plain(await request)
        except Exception as error:
            if hasattr(error, "error") and hasattr(error.error, "code"):
                raise Refused(error.error) from None
            raise

    async def tools(self):
        return (await self.asked(self.client.list_tools()))["tools"]

    async def templates(self):
        return (await self.asked(self.client.list_resource_templates()))["resourceTemplates"]

    async def resources(self):
        return (await self.asked(self.client.list_resources()))["resources"]

    async def read(self, uri):
        contents = (await self.asked(self.client.read_resource(self.uri(uri))))["contents"]
        same(len(contents), 1, "contents of a resource")
        same(contents[0]["mimeType"], "text/plain")
        same(contents[0]["uri"], uri)
        return contents[0]["text"]

    async def prompts(self):
        return (await self.asked(self.client.list_prompts()))["prompts"]

    async def prompt(self, name, **arguments):
        messages = (await self.asked(self.client.get_prompt(name, arguments)))["messages"]
        same([message["role"] for message in messages], ["user"])
        return messages[0]["content"]["text"]

    async def complete_template(self, template, value):
        reference = self.types.ResourceTemplateReference(type="ref/resource", uri=template)
        return await self.complete(reference, value)

    async def complete_prompt(self, name, value):
        return await self.complete(self.types.PromptReference(type="ref/prompt", name=name), value)

    async def complete(self, reference, value):
        request = self.client.complete(reference, {"name": "job_id", "value": value})
        return (await self.asked(request))["completion"]

    # Tools.

    async def result(self, tool, arguments, progress=None):
        result = await self.asked(self.client.call_tool(tool, arguments, progress_callback=progress))
        if "structuredContent" in result:
            self.schemas.hold(tool, result["structuredContent"])
        return result

    async def fields(self, tool, progress=None, **arguments):
        """The structured result, asked for if the server does not give it by itself; and the text is the same."""
        return json.loads(await self.raw(tool, progress, **arguments))

    async def raw(self, tool, progress=None, **arguments):
        if not self.structured:
            arguments["markdown_output"] = False
        result = await self.result(tool, arguments, progress)
        holds(not result.get("isError"), f"{tool}({arguments}) failed: {result}")
        same(len(result["content"]), 1, "blocks")
        text = result["content"][0]["text"]
        same(result.get("structuredContent"), json.loads(text), "structured content beside its text")
        return text

    async def markdown(self, tool, **arguments):
        """The text for people and models; nothing else, unless a schema promises it."""
        if self.structured:
            arguments["markdown_output"] = True
        result = await self.result(tool, arguments)
        holds(not result.get("isError"), f"{tool}({arguments}) failed: {result}")
        same("structuredContent" in result, self.structured, "structured content is there")
        same(len(result["content"]), 1, "blocks")
        return result["content"][0]["text"]

    async def refused(self, tool, *parts, **arguments):
        """A failure that says in its first block what and what next."""
        result = await self.result(tool, arguments)
        same(result.get("isError"), True, f"{tool}({arguments}) is an error; it is {result}")
        text = result["content"][0]["text"]
        holds(text.startswith("**Error:** "), text)
        contains(text, "\n\n**Next:** ", *parts)
        return result

    # Runs something with the interpreter on PATH.
    async def run(self, code, tool="py_run_script_in_dir", **arguments):
        given = {"directory": os.getcwd(), "script_content": code, "use_uv": False} | arguments
        return await self.fields(tool, **given)

    async def start(self, code, **arguments):
        """The id of a job that nobody waits for."""
        started = await self.run(code, tool="py_run_script_in_dir_async", **arguments)
        same(started["status"], "started")
        return started["job_id"]

    async def finished(self, job_id, **arguments):
        """`py_job_status` of a job that has ended."""
        while True:
            status = await self.fields("py_job_status", job_id=job_id, wait_seconds=45, **arguments)
            if status["job"]["status"] not in ("pending", "running"):
                return status


class CurrentSession(Session):
    types = mcp.types

    @classmethod
    @asynccontextmanager
    async def open(cls, server, structured, mode, schemas):
        stray = []

        async def heard(message):
            stray.append(message)

        async with mcp.Client(server, mode=mode, message_handler=heard) as client:
            self = cls(client, structured, schemas)
            self.stray = stray
            self.legacy = mode == "legacy"
            self.version = client.protocol_version
            self.server_name = client.server_info.name
            self.capabilities = self.plain(client.server_capabilities)
            yield self

    def uri(self, uri):
        return uri

    @asynccontextmanager
    async def watch(self, uri):
        """Gives a function that returns at the next notice."""
        if self.legacy:
            async with watched_by_handshake(self, uri, self.client.subscribe_resource, self.updated) as heard:
                yield heard
            return
        async with self.client.listen(resource_subscriptions=[uri]) as subscription:
            same(list(subscription.honored.resource_subscriptions), [uri])

            async def heard():
                event = await subscription.__anext__()
                same(str(event.uri), uri)

            yield heard

    def updated(self, message):
        if isinstance(message, self.types.ResourceUpdatedNotification):
            return str(message.params.uri)

    async def give_up(self, tool, arguments, when):
        """Calls, and takes the call back once `when` has returned."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.result, tool, arguments)
            await when()
            tasks.cancel_scope.cancel()


class HandshakeSession(Session):
    types = mcp.types

    @classmethod
    @asynccontextmanager
    async def open(cls, server, structured, mode, schemas):
        stray = []

        async def heard(message):
            stray.append(message)

        async with stdio_client(server) as streams:
            async with mcp.ClientSession(*streams, message_handler=heard) as client:
                opened = await client.initialize()
                self = cls(client, structured, schemas)
                self.stray = stray
                self.version = opened.protocolVersion
                self.server_name = opened.serverInfo.name
                self.capabilities = self.plain(opened.capabilities)
                yield self

    def uri(self, uri):
        from pydantic import AnyUrl

        return AnyUrl(uri)

    @asynccontextmanager
    async def watch(self, uri):
        async with watched_by_handshake(self, uri, self.client.subscribe_resource, self.updated) as heard:
            yield heard

    def updated(self, message):
        root = getattr(message, "root", None)
        if isinstance(root, self.types.ResourceUpdatedNotification):
            return str(root.params.uri)

    async def give_up(self, tool, arguments, when):
        async with anyio.create_task_group() as tasks:
            # This SDK says nothing when a call is taken back: its user does.
            number = self.client._request_id
            tasks.start_soon(self.result, tool, arguments)
            while self.client._request_id == number:
                await anyio.lowlevel.checkpoint()
            await when()
            params = self.types.CancelledNotificationParams(requestId=number, reason="changed my mind")
            notification = self.types.CancelledNotification(method="notifications/cancelled", params=params)
            await self.client.send_notification(self.types.ClientNotification(notification))
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def watched_by_handshake(session, uri, subscribe, updated):
    await subscribe(session.uri(uri))
    heard_so_far = 0

    async def heard():
        nonlocal heard_so_far

        async def look():
            return [uri for uri in map(updated, session.stray) if uri][heard_so_far:]

        news = await until(f"a notice about {uri} comes", look)
        same(set(news), {uri})
        heard_so_far += len(news)

    yield heard
    await session.client.unsubscribe_resource(session.uri(uri))


class Schemas:
    """What results of tools have to be, as the server declares it when it is asked to; whether or not it was."""

    def __init__(self, server):
        self.server = server
        self.by_tool = None

    def hold(self, tool, content):
        if self.by_tool is None:
            self.by_tool = self.listed()
        schema = self.by_tool[tool if tool.startswith("py_") else f"py_{tool}"]
        problems = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(content)]
        holds(not problems, f"{tool}: {problems}: {content}")

    def listed(self):
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
        ran = subprocess.run(
            [*self.server, "--structured"], input=json.dumps(request) + "\n", capture_output=True, text=True, check=True
        )
        tools = {tool["name"]: tool["outputSchema"] for tool in json.loads(ran.stdout)["result"]["tools"]}
        for schema in tools.values():
            jsonschema.Draft202012Validator.check_schema(schema)
        return tools


class Clients:
    """Opens sessions with one client, in one mode of the server."""

    def __init__(self, client, structured, server):
        self.client, self.structured, self.server = client, structured, server
        self.schemas = Schemas(server)

    @property
    def is_stateless(self):
        return self.client == "current"

    @asynccontextmanager
    async def session(self, *options, **variables):
        """With a server of its own, started in the current directory."""
        command, *arguments = self.server
        if self.structured:
            arguments.append("--structured")
        environment = dict(os.environ) | variables
        server = StdioServerParameters(command=command, args=[*arguments, *options], env=environment, cwd=os.getcwd())
        kind = HandshakeSession if self.client == "handshake" else CurrentSession
        mode = {"current": "auto", "legacy": "legacy", "handshake": None}[self.client]
        async with kind.open(server, self.structured, mode, self.schemas) as session:
            with anyio.fail_after(2 * PATIENCE):
                yield session


@asynccontextmanager
async def whatever_happens():
    """For a session whose server is killed in the middle of it."""
    with suppress(Exception):
        yield
