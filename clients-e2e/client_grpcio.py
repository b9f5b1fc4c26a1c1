"""Python's grpcio, with stubs generated from proto/: `python client_grpcio.py CONTROL FANOUT RUN`.

Steers the run's only agent, which writes numbers, while it reads what the agent says at the fan-out.
Tells each check as a line of JSON, {"what", "problem"}.
"""

import json
import queue
import sys
import threading
import time
from datetime import datetime

import grpc
import httpx
from google.protobuf import duration_pb2, json_format
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from httpx_sse import connect_sse

from runcast.control.v1 import command_pb2, command_service_pb2, command_service_pb2_grpc
from runcast.control.v1 import run_pb2, run_service_pb2, run_service_pb2_grpc

CONTROL, FANOUT, RUN = sys.argv[1:]
PARENT = f"runs/{RUN}"
CALLER = "python-grpcio"
# Against hanging only: nothing here waits so long.
PATIENCE = 15
# How long a paused agent is watched: it would write some twenty numbers meanwhile.
STANDSTILL = 1.0
# What was in the pipe when the agent was stopped is published a little later.
IN_FLIGHT = 0.25

channel = grpc.insecure_channel(CONTROL, options=[("grpc.enable_http_proxy", 0)])
commands = command_service_pb2_grpc.CommandServiceStub(channel)
runs = run_service_pb2_grpc.RunServiceStub(channel)


def check(what, problem=None):
    print(json.dumps({"what": what, "problem": str(problem) if problem else None}), flush=True)


def call(method, request, timeout=PATIENCE):
    return method(request, timeout=timeout, metadata=[("runcast-caller", CALLER)])


def order(parent=PARENT, ttl=10, **fields):
    action = {name: fields.pop(name) for name in ("pause", "resume", "stop", "custom") if name in fields}
    return command_service_pb2.SendCommandRequest(
        parent=parent,
        command=command_pb2.Command(**action),
        ttl=duration_pb2.Duration(seconds=ttl),
        **fields,
    )


def state(number):
    return command_pb2.CommandState.Name(number).removeprefix("COMMAND_STATE_")


def seconds(timestamp):
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


class Speech:
    """What the agent says, as a viewer of the fan-out sees it: (time, number) each, and how it ends."""

    def __init__(self):
        self.heard = []
        self.end = None
        self._new = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        with httpx.Client(timeout=None, trust_env=False) as client:
            with connect_sse(client, "GET", f"{FANOUT}/v1/runs/{RUN}/events?channels=output,status") as source:
                rest = ""
                for event in source.iter_sse():
                    if event.event == "output":
                        message = event.json()
                        *lines, rest = (rest + message["content"]).split("\n")
                        for line in lines:
                            self._new.put((message["timestamp"], int(line)))
                    elif event.event == "end":
                        self.end = event.json()["state"]
                        self._new.put(None)
                        return

    def next(self, timeout=PATIENCE):
        """The next number with its time; none at the end, or if none comes for so long."""
        try:
            said = self._new.get(timeout=timeout)
        except queue.Empty:
            return None
        if said:
            self.heard.append(said)
        return said

    def more(self, count):
        for _ in range(count):
            if not self.next():
                return f"it fell silent after {self.heard[-1:]}"

    def quiet(self, since):
        """Whether nothing is said after `since`, while we listen for a while. What comes meanwhile and was
        said before that proves nothing: we may have begun to listen late, or be slow."""
        end = time.monotonic() + STANDSTILL
        while (left := end - time.monotonic()) > 0:
            said = self.next(left)
            if said and seconds(said[0]) > since:
                return f"it said {said}, {seconds(said[0]) - since:.3f} s later than it may"


def watch_run(seen):
    for change in call(runs.WatchRun, run_service_pb2.WatchRunRequest(name=PARENT), timeout=40):
        seen.put(change.run)
    seen.put(None)


def steer(request, steps, result):
    """Sends a command, watches it to its end, and checks how it came there."""
    name = request.command.WhichOneof("action")
    sent = call(commands.SendCommand, request).command
    watched = [step.command for step in
               call(commands.WatchCommand, command_service_pb2.WatchCommandRequest(name=sent.name))]
    last = watched[-1]
    seen = [state(step.state) for step in last.outcomes[0].steps]
    check(f"{name}: WatchCommand tells {' → '.join(steps).lower()}", seen != steps and f"it told {seen}")
    # Each message adds steps to the one before, and is not over before the last.
    grown = [len(command.outcomes[0].steps) for command in watched]
    over = [command.state in (4, 5, 6, 7, 8) for command in watched]
    check(
        f"{name}: each message of WatchCommand goes further, the last is the end",
        (sorted(set(grown)) != grown and f"steps in each: {grown}")
        or (over != [False] * (len(over) - 1) + [True] and f"over in each: {over}"),
    )
    said = json_format.MessageToDict(last.outcomes[0].steps[-1].result)
    check(f"{name}: says what came of it", not result(said) and f"it said {said}")
    check(f"{name}: names its caller", last.caller != CALLER and last.caller)
    return last


def refused(what, method, request, code, detail, holds, timeout=PATIENCE):
    """Checks that a call is refused with `code` and a detail for which `holds`."""
    try:
        answer = call(method, request, timeout)
        return check(what, f"it was answered with {answer}")
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        details = list(status.details) if status else []
        found = [part for part in details if part.Is(detail.DESCRIPTOR)] if detail else []
        if error.code() != code:
            return check(what, f"{error.code()}: {error.details()}")
        if not detail:
            return check(what)
        if not found:
            return check(what, f"its details are {details}")
        detail = detail()
        found[0].Unpack(detail)
        check(what, not holds(detail) and f"its detail is {detail}")


def health_and_reflection():
    health = health_pb2_grpc.HealthStub(channel)
    services = ["runcast.control.v1.CommandService", "runcast.control.v1.RunService"]
    for service in ["", *services]:
        answer = call(health.Check, health_pb2.HealthCheckRequest(service=service)).status
        check(f"grpc.health.v1: {service or 'the server'} is serving", answer != 1 and answer)
    reflection = ProtoReflectionDescriptorDatabase(channel)
    listed = reflection.get_services()
    missing = [service for service in services if service not in listed]
    check("reflection lists both services", missing and f"it lists {listed}")
    found = reflection.FindFileContainingSymbol("runcast.control.v1.CommandService.SendCommand")
    check("reflection has the file of a method", found.package != "runcast.control.v1" and found.name)


def drive():
    speech, seen = Speech(), queue.Queue()
    threading.Thread(target=watch_run, args=(seen,), daemon=True).start()
    states = []
    while run_pb2.RUN_STATE_RUNNING not in states:
        states.append(seen.get(timeout=PATIENCE).state)
    check("WatchRun, begun before the run, tells that it runs")
    check("the agent's numbers come", speech.more(5))

    pause = order(pause={}, request_id="pause-1")
    paused = steer(pause, ["ISSUED", "DELIVERED", "APPLIED"], lambda said: said.get("processes", 0) >= 1)
    stopped_at = paused.outcomes[0].steps[-1].time.ToNanoseconds() / 1e9 + IN_FLIGHT
    check(f"pause: not a number for {STANDSTILL:.0f} s", speech.quiet(stopped_at))
    again = call(commands.SendCommand, pause).command
    check("pause: the same request_id is the same command", again.name != paused.name and again.name)
    refused("the same request_id for something else is refused: ErrorInfo",
            commands.SendCommand, order(stop={}, request_id="pause-1"), grpc.StatusCode.ALREADY_EXISTS,
            error_details_pb2.ErrorInfo, lambda info: (info.domain, info.reason) == ("runcast", "ALREADY_EXISTS"))

    resumed = steer(order(resume={}), ["ISSUED", "DELIVERED", "APPLIED"], lambda said: said is not None)
    check("resume: the numbers go on", speech.more(10))
    went_on_at = resumed.create_time.ToNanoseconds() / 1e9
    between = [said for said in speech.heard if stopped_at < seconds(said[0]) < went_on_at]
    check("pause: by the messages' own times, too, nothing was said until resume",
          between or (went_on_at - stopped_at < STANDSTILL / 2 and "there was no pause"))

    refused("cancelling what was delivered is refused: PreconditionFailure", commands.CancelCommand,
            command_service_pb2.CancelCommandRequest(name=paused.name), grpc.StatusCode.FAILED_PRECONDITION,
            error_details_pb2.PreconditionFailure, lambda failure: failure.violations[0].subject == paused.name)

    stop = order(stop={"grace_period": {"seconds": 5}})
    executed = call(commands.ExecuteCommand, command_service_pb2.ExecuteCommandRequest(request=stop)).command
    result = json_format.MessageToDict(executed.outcomes[0].steps[-1].result)
    check("stop: ExecuteCommand answers at its end, with the signal that ended the agent",
          (state(executed.state), result) != ("APPLIED", {"signal": 15}) and f"{state(executed.state)} {result}")
    while speech.next():
        pass
    numbers = [number for _, number in speech.heard]
    check("the numbers are all there, without a hole",
          numbers != list(range(1, len(numbers) + 1)) and f"they are {numbers}")
    check("viewers are told that the run ended cancelled", speech.end != "cancelled" and speech.end)

    last = None
    while (run := seen.get(timeout=PATIENCE)) is not None:
        last = run
    ended = last and (run_pb2.RunState.Name(last.state), CALLER in last.variations[0].reason)
    check("WatchRun ends with the run: cancelled, and by whom",
          ended != ("RUN_STATE_CANCELLED", True) and f"it ended with {last}")
    refused("a command to a run that is over is refused: PreconditionFailure", commands.SendCommand,
            order(pause={}), grpc.StatusCode.FAILED_PRECONDITION,
            error_details_pb2.PreconditionFailure, lambda failure: failure.violations[0].subject == PARENT)
    listed = call(commands.ListCommands, command_service_pb2.ListCommandsRequest(parent=PARENT)).commands
    actions = [(command.WhichOneof("action"), state(command.state)) for command in listed]
    wanted = [("stop", "APPLIED"), ("resume", "APPLIED"), ("pause", "APPLIED")]
    check("ListCommands has the three, the latest first", actions != wanted and actions)


def bad_calls():
    invalid = grpc.StatusCode.INVALID_ARGUMENT

    def names(field):
        return lambda bad: [violation.field for violation in bad.field_violations] == [field]

    bad = error_details_pb2.BadRequest
    refused("a deadline in the past: BadRequest names ttl", commands.SendCommand,
            order(pause={}, ttl=-1), invalid, bad, names("ttl"))
    refused("no action: BadRequest names command.action", commands.SendCommand, order(), invalid, bad,
            names("command.action"))
    refused("a name that is none: BadRequest names parent", commands.SendCommand,
            order(parent=RUN, pause={}), invalid, bad, names("parent"))
    refused("an unknown run: ResourceInfo names it", runs.GetRun,
            run_service_pb2.GetRunRequest(name="runs/nobody"), grpc.StatusCode.NOT_FOUND,
            error_details_pb2.ResourceInfo, lambda info: info.resource_name == "runs/nobody")


def nobody_answers():
    """A run whose agents have not begun: commands wait, for a deadline or to be called back."""
    run = call(runs.CreateRun, run_service_pb2.CreateRunRequest(
        run_id=f"{RUN}-later", variation_ids=["var-1", "var-2"], labels={"made-by": "clients-e2e"})).run
    stands = [run_pb2.RunState.Name(variation.state) for variation in run.variations]
    check("CreateRun: its variations are pending", stands != ["RUN_STATE_PENDING"] * 2 and stands)
    waiting = order(parent=run.name, pause={}, variation_ids=["var-2"])
    refused("ExecuteCommand keeps to the call's deadline", commands.ExecuteCommand,
            command_service_pb2.ExecuteCommandRequest(request=waiting), grpc.StatusCode.DEADLINE_EXCEEDED,
            None, None, timeout=2)
    [command] = call(commands.ListCommands, command_service_pb2.ListCommandsRequest(parent=run.name)).commands
    check("the command goes on without its caller", state(command.state) != "ISSUED" and state(command.state))
    cancelled = call(commands.CancelCommand, command_service_pb2.CancelCommandRequest(
        name=command.name, reason="changed my mind")).command
    [outcome] = cancelled.outcomes
    told = (outcome.variation_id, state(cancelled.state), outcome.steps[-1].reason, outcome.steps[-1].caller)
    check("CancelCommand calls it back from the variation it was for, with reason and caller",
          told != ("var-2", "CANCELLED", "changed my mind", CALLER) and told)
    refused("DeleteRun of a run that is not over: PreconditionFailure", runs.DeleteRun,
            run_service_pb2.DeleteRunRequest(name=run.name), grpc.StatusCode.FAILED_PRECONDITION,
            error_details_pb2.PreconditionFailure, lambda failure: failure.violations[0].subject == run.name)
    found = call(runs.ListRuns, run_service_pb2.ListRunsRequest(labels={"made-by": "clients-e2e"})).runs
    check("ListRuns finds it by its label", [one.name for one in found] != [run.name] and found)
    call(runs.DeleteRun, run_service_pb2.DeleteRunRequest(name=run.name, force=True))
    refused("after DeleteRun with force it is gone", runs.GetRun, run_service_pb2.GetRunRequest(name=run.name),
            grpc.StatusCode.NOT_FOUND, None, None)


health_and_reflection()
drive()
bad_calls()
nobody_answers()
