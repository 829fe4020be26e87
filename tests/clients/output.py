"""A job's output, byte for byte."""

from pathlib import Path

from session import Refused, contains, holds, same

# Characters of one to four bytes; a write ends in the middle of one.
TEXT = "aß✓𝄞\nplain\n" * 3
PRINTS = f"""
import os, time
data = {TEXT!r}.encode()
os.write(1, data[:42])
os.write(2, data[:5])
while not os.path.exists('go'): time.sleep(0.005)
os.write(1, data[42:])
os.write(2, data[5:])
"""


async def output_is_put_together_again_from_its_cursors(clients):
    data = TEXT.encode()
    async with clients.session() as session:
        job_id = await session.start(PRINTS)
        stdout, stderr, cursors = "", "", {"stdout_cursor": 0, "stderr_cursor": 0}

        async def more(max_bytes):
            nonlocal stdout, stderr, cursors
            read = await session.fields(
                "py_get_job_output", job_id=job_id, wait_seconds=45, max_output_bytes=max_bytes, **cursors
            )
            for text in (read["stdout"], read["stderr"]):
                holds(len(text.encode()) <= max_bytes, read)
            stdout += read["stdout"]
            stderr += read["stderr"]
            cursors = {"stdout_cursor": read["next_stdout_cursor"], "stderr_cursor": read["next_stderr_cursor"]}
            same((len(stdout.encode()), len(stderr.encode())), tuple(cursors.values()), "cursors count bytes")
            return read

        # What is there while it runs, without the half of a character at its end.
        whole = len(data[:42].decode(errors="ignore").encode()), len(data[:5].decode(errors="ignore").encode())
        while tuple(cursors.values()) != whole:
            read = await more(4)
            same((read["status"], read["exit_code"]), ("running", None))
        Path("go").touch()
        size = 4
        while read["status"] != "finished" or read["more"]:
            read = await more(size)
            size = size + 1 if size < 10 else 4
        same((stdout, stderr), (TEXT, TEXT))
        same((read["stdout_bytes"], read["stderr_bytes"], read["exit_code"]), (len(data), len(data), 0))

        # And again, now that it has finished.
        for size in (4, 5, 7, 10):
            stdout, stderr, cursors = "", "", {"stdout_cursor": 0, "stderr_cursor": 0}
            while (await more(size))["more"]:
                pass
            same((stdout, stderr), (TEXT, TEXT))
        # From the middle, and at the end.
        read = await session.fields("py_get_job_output", job_id=job_id, stdout_cursor=10, stderr_cursor=len(data))
        same((read["stdout"], read["stderr"], read["more"]), (data[10:].decode(errors="replace"), "", False))
        await session.refused("py_get_job_output", "stdout_cursor is 99999", job_id=job_id, stdout_cursor=99_999)

        text = await session.markdown("py_get_job_output", job_id=job_id, max_output_bytes=11)
        contains(text, f"**Finished** · exit code 0 · job `{job_id}`", "stdout:\n```\naß✓𝄞\n")
        contains(text, f'**Next:** py_get_job_output(job_id="{job_id}", stdout_cursor=11, stderr_cursor=11)')


async def bytes_that_are_no_text_do_not_stand_in_the_way(clients):
    code = "import os; os.write(1, b'a\\xff\\xfeb\\0c' + '✓'.encode()[:2])"
    async with clients.session() as session:
        ran = await session.run(code)
        same(ran["stdout"], "a\ufffd\ufffdb\0c\ufffd")
        same(ran["stdout_bytes"], 8)
        read = await session.fields("py_get_job_output", job_id=ran["job_id"])
        same((read["stdout"], read["next_stdout_cursor"], read["more"]), ("a\ufffd\ufffdb\0c\ufffd", 8, False))
        same(await session.read(f"job-stream://{ran['job_id']}"), f"---STDOUT---\n{ran['stdout']}\n---STDERR---\n")


async def the_resource_is_what_was_printed_so_far(clients):
    async with clients.session() as session:
        job_id = await session.start(PRINTS, job_label="streams")
        await session.fields("py_get_job_output", job_id=job_id, wait_seconds=45)
        uri = f"job-stream://{job_id}"

        templates = await session.templates()
        same(
            [(kind["uriTemplate"], kind.get("mimeType")) for kind in templates],
            [("job-stream://{job_id}", "text/plain"), ("job-artifact://{job_id}/{path}", None)],
        )
        listed = await session.resources()
        same([(resource["uri"], resource["name"]) for resource in listed], [(uri, "streams")])

        async with session.watch(uri) as heard:
            text = await session.read(uri)
            holds(text.startswith("---STDOUT---\naß✓𝄞\n") and "\n---STDERR---\n" in text, repr(text))
            # Reading changes nothing.
            same((await session.fields("py_job_status", job_id=job_id))["job"]["status"], "running")
            Path("go").touch()
            while await session.read(uri) != f"---STDOUT---\n{TEXT}\n---STDERR---\n{TEXT}":
                await heard()
        same((await session.finished(job_id))["job"]["exit_code"], 0)
        same(await session.read(uri), f"---STDOUT---\n{TEXT}\n---STDERR---\n{TEXT}")

        # The last MiB of each stream, and no half of a character.
        ran = await session.run("print('✓' * 400_000)", max_output_bytes=100)
        text = await session.read(f"job-stream://{ran['job_id']}")
        stdout = text.removeprefix("---STDOUT---\n").removesuffix("\n---STDERR---\n")
        same(set(stdout), {"✓", "\n"})
        holds(2**20 - 3 < len(stdout.encode()) <= 2**20, len(stdout.encode()))

        for uri in ("job-stream://ffffffff-ffff-ffff-ffff-ffffffffffff", "other://x"):
            error = await unread(session, uri)
            same(error.code, -32602 if clients.is_stateless else -32002)
            same(error.data, {"uri": uri})


async def unread(session, uri):
    try:
        await session.read(uri)
    except Refused as error:
        return error
    holds(False, f"{uri} could be read")


async def subscribers_hear_of_output_and_of_the_end(clients):
    code = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
    async with clients.session() as session:
        job_id = await session.start(code, open_stdin=True)
        uri = f"job-stream://{job_id}"
        async with session.watch(uri) as heard:
            for line in ("one\n", "two\n"):
                await session.fields("py_send_input", job_id=job_id, text=line)
                await heard()
                while line not in await session.read(uri):
                    await heard()
            await session.fields("py_send_input", job_id=job_id, text="", close=True)
            await heard()
            while (await session.fields("py_job_status", job_id=job_id))["job"]["status"] == "running":
                await heard()
        same(await session.read(uri), "---STDOUT---\none\ntwo\n\n---STDERR---\n")
        # What was there before is news too: nobody waits for a notice that has been missed.
        async with session.watch(uri) as heard:
            await heard()
