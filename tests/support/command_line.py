"""A command line, read as the driver's own is."""

from cyclopts import App

from hyperpod_ebs.driver.app.options import CONTROLLER, NODE, SERVING, ControllerOptions, NodeOptions, ServingOptions


def read(*words: str) -> tuple[ServingOptions, ControllerOptions, NodeOptions]:
    """The options of a command line."""
    reader = App(result_action="return_value")

    @reader.default
    def everything(
        *,
        serving: ServingOptions = SERVING,
        controller: ControllerOptions = CONTROLLER,
        node: NodeOptions = NODE,
    ) -> tuple[ServingOptions, ControllerOptions, NodeOptions]:
        return serving, controller, node

    answer: tuple[ServingOptions, ControllerOptions, NodeOptions] = reader(words, exit_on_error=False)
    return answer
