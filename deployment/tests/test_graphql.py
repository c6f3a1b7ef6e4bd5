import pytest

from deployment import graphql, parameters
from deployment.failure import Failure
from deployment.package import INFRASTRUCTURE, read_template
from deployment.stacks import Stack, Step

DECLARED = read_template(INFRASTRUCTURE / "graphql" / "template.yaml")["Parameters"]
MAIN = Stack("evoke-qa", "CREATE_COMPLETE", {}, {"UserPoolId": "eu-west-1_a", "UserPoolClientId": "client"})
EFFECTIVE = {"Environment": "qa", "Architecture": "x86_64", "LogRetentionDays": "0", "ThrottleRate": "5"}


def test_the_stack_gets_every_parameter_that_has_no_default() -> None:
    values = graphql.compose(EFFECTIVE, MAIN, {})
    assert {name for name, declaration in DECLARED.items() if "Default" not in declaration} <= values.keys()
    assert values.keys() <= DECLARED.keys()
    parameters.check_values(values, DECLARED)


def test_both_templates_declare_the_shared_parameters_alike() -> None:
    main = read_template(INFRASTRUCTURE / "template.yaml")["Parameters"]
    assert {name: main[name] for name in graphql.SHARED} == {name: DECLARED[name] for name in graphql.SHARED}


def test_a_user_sets_only_what_nothing_else_decides() -> None:
    assert graphql.own(DECLARED).keys() == {"GraphqlLogs"}


def test_the_api_key_lives_as_long_as_appsync_allows_and_a_day_less() -> None:
    assert 1 <= graphql.API_KEY_DAYS < 365


def test_a_main_stack_without_a_user_pool_is_refused() -> None:
    with pytest.raises(Failure, match="the stack evoke-qa has no output UserPoolId, UserPoolClientId"):
        graphql.compose(EFFECTIVE, Stack("evoke-qa", "CREATE_COMPLETE"), {})


@pytest.mark.parametrize("step", [Step.CREATE, Step.REPEAT_CREATION])
def test_a_graphql_api_whose_main_stack_is_gone_has_to_go_first(step: Step) -> None:
    with pytest.raises(Failure, match="`aws cloudformation delete-stack --stack-name evoke-graphql-qa`"):
        graphql.check_order(Stack("evoke-graphql-qa", "CREATE_COMPLETE"), MAIN, step)


def test_any_other_order_is_fine() -> None:
    graphql.check_order(Stack("evoke-graphql-qa", "CREATE_COMPLETE"), MAIN, Step.UPDATE)
    for status in (None, "REVIEW_IN_PROGRESS", "DELETE_COMPLETE"):
        graphql.check_order(Stack("evoke-graphql-qa", status), Stack("evoke-qa"), Step.CREATE)
