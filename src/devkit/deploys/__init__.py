"""A SAM application in an account, and its database: ``account``, ``certs``, ``database``, ``deploy``, ``destroy``.

``target`` is where it goes: the names of two stacks, and what a file of the user's own says. ``asking`` is a boto3
client whose refusals are a sentence, ``stacks`` what CloudFormation says of a stack, ``commands`` the ``sam`` program,
shown before it runs. ``parameters`` decides which value each parameter of a template gets, and what is wrong with it;
``versions`` puts functions behind an alias, where the file asks for it; ``concurrency`` decides whether the account has
room for what a template reserves, ``network`` whether the functions' subnets lead anywhere; ``prices`` says what to
wait for and to pay. Whether the connections fit, ``devkit.plan`` says.

A module for each verb does the rest: ``account`` asks and changes nothing, ``certificates`` fetches a bundle,
``database`` and ``application`` deploy a stack each, ``removal`` deletes them.

It must not know a particular application: parameters, outputs and resources are read from the two templates. What
else an account may lack is a row in ``account``; what else a stack may be in the middle of is a line in ``stacks``.
"""
