"""Parse a command line as the driver does."""

from cyclopts import App

from hyperpod_ebs.driver.app.options import CONTROLLER, NODE, SERVING, ControllerOptions, NodeOptions, ServingOptions


def parse_command_line(*words: str) -> tuple[ServingOptions, ControllerOptions, NodeOptions]:
    """Parse the flags of all driver processes."""
    parser = App(result_action="return_value")

    @parser.default
    def all_options(
        *,
        serving: ServingOptions = SERVING,
        controller: ControllerOptions = CONTROLLER,
        node: NodeOptions = NODE,
    ) -> tuple[ServingOptions, ControllerOptions, NodeOptions]:
        return serving, controller, node

    options: tuple[ServingOptions, ControllerOptions, NodeOptions] = parser(words, exit_on_error=False)
    return options
